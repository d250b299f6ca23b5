/* The conformance suite for the backends that are built in: conformance --backend NAME [--case NAME]. */
#include "cases.h"

int main(int argc, char **argv) {
    return conformance_main(argc, argv);
}
