#!/usr/bin/env python3
"""Checks the rules of docs/architecture.md that a script can check; one rule a run, a line per violation.

    lint.py RULE [--root DIR]   exit status 1 if the rule is broken anywhere
    lint.py --list              the rules
    lint.py --self-test         breaks each rule in a small tree and sees that it is noticed
"""
import argparse
import pathlib
import re
import sys
import tempfile

BACKENDS = "epoll poll select kqueue io_uring io_uring_poll wsapoll afd".split()
OS_MACROS = re.compile(r"\b(_WIN32|_WIN64|WIN32|__MINGW\w*|_MSC_VER|__CYGWIN__|__linux(__)?|linux|__ANDROID__"
                       r"|__APPLE__|__MACH__|__(Free|Net|Open)BSD__|__DragonFly__|__sun|__unix(__)?)\b")
ALLOCATION = re.compile(r"(?<![\w.>])(malloc|calloc|realloc|free|strdup|strndup|aligned_alloc|posix_memalign)"
                        r"\s*\(")
OUTPUT = re.compile(r"(?<![\w.>])(v?f?printf|v?dprintf|puts|fputs|fputc|putchar|perror|fwrite|abort|_?exit"
                    r"|_Exit|quick_exit|raise)\s*\(")
CALLBACK = re.compile(r"\bon_\w+\s*\(|\buser_data\b|\bp2p_\w+_callback\b")
CALL_OF_OURS = re.compile(r"\b(p2pi?_\w+)\s*\(")
SIZE_LIMITS = {"core": 600, "backends": 280, "backends/io_uring.c": 500, "backends/afd.c": 450}
SIZE_AIM = {"core": 400}
FUNCTION_LIMIT = 70
COLUMN_LIMIT = 120

TOKEN = re.compile(r"""/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'""", re.S)


def without_comments(text, keep_strings=True):
    """The text with each comment (and string) blanked out; every line stays where it is."""
    def blank(match):
        token = match.group()
        if token[0] in "\"'":
            return token if keep_strings else token[0] * 2
        return re.sub(r"[^\n]", " ", token)
    return TOKEN.sub(blank, text)


class Tree:
    def __init__(self, root):
        self.root = pathlib.Path(root)

    def files(self, *directories, suffixes=(".c", ".h")):
        for directory in directories:
            for path in sorted((self.root / directory).rglob("*")):
                if path.suffix in suffixes and path.is_file():
                    yield path.relative_to(self.root).as_posix(), path.read_text(encoding="utf-8")

    def code(self, *directories, keep_strings=True):
        for name, text in self.files(*directories):
            yield name, without_comments(text, keep_strings)


def matches(pattern, name, code, what):
    for number, line in enumerate(code.splitlines(), 1):
        for match in re.finditer(pattern, line):
            yield name, number, f"{what}: {match.group().strip()}"


def is_sys(name):
    return name.startswith("core/sys_")


def os_conditionals(tree):
    """The operating system is told apart in core/sys_*, p2pnet/base.h, p2pnet/sys.h and backends/ only."""
    for name, code in tree.code("core", "include"):
        if not is_sys(name) and name not in ("include/p2pnet/base.h", "include/p2pnet/sys.h"):
            yield from matches(OS_MACROS, name, code, "names an operating system")


def headers_include_no_os(tree):
    """Public headers include each other, stddef.h and stdint.h; so they drag nothing into a program."""
    for name, code in tree.code("include"):
        foreign = r"#\s*include\s+(?!<p2pnet/|<stddef\.h>|<stdint\.h>).*"
        yield from matches(foreign, name, code, "foreign header")


def backend_names(tree):
    """The core knows no backend by name, except to resolve a choice and to fill the system table."""
    words = re.compile(r"\b(" + "|".join(BACKENDS) + r")\b")
    for name, code in tree.code("core"):
        if not is_sys(name) and name != "core/resolve.c":
            yield from matches(words, name, code, "names a backend")


def caps_unread(tree):
    """Capabilities are to choose and to report: the core reads them in resolve.c only."""
    for name, code in tree.code("core"):
        if name != "core/resolve.c":
            yield from matches(r"(->|\.)\s*caps\b", name, code, "reads capabilities")


def allocation(tree):
    """All memory comes from the one allocator, behind core/alloc.c."""
    for name, code in tree.code("core", "backends"):
        if name != "core/alloc.c":
            yield from matches(ALLOCATION, name, code, "allocates by itself")


def silence(tree):
    """The library never prints, aborts or exits."""
    for name, code in tree.code("core", "backends"):
        yield from matches(OUTPUT, name, code, "prints or ends the process")


def backends_call_nobody(tree):
    """A backend calls the allocator and the system table of its env, and neither users nor the core (B1)."""
    own = "\n".join(code for name, code in tree.code("backends") if name.endswith(".h"))
    for name, code in tree.code("backends"):
        if name == "backends/list.c":
            continue
        own_call = re.sub(r"(?<=\bcall->)user_data\b|(?<=\bcompletion->)user_data\b", "name", code)  # io_uring's word
        yield from matches(CALLBACK, name, own_call, "knows of a user callback")
        header = r"#\s*include\s+.*\b(internal|sys_\w+)\.h.*"
        yield from matches(header, name, code, "includes a header of the core")
        for number, line in enumerate(code.splitlines(), 1):
            for function in CALL_OF_OURS.findall(line):
                if not re.search(rf"\b{function}\s*\(", own):
                    yield name, number, f"calls the core: {function}"


def function_length(tree):
    """A function has at most 70 lines."""
    for name, code in tree.code("core", "backends", keep_strings=False):
        depth, start, first = 0, None, None
        for number, line in enumerate(code.splitlines(), 1):
            if line.lstrip().startswith("#") or (not line.strip() and depth == 0):
                first = None if depth == 0 else first
                continue
            if depth == 0 and first is None:
                first = number
            for character in line:
                if character == "{":
                    if depth == 0:
                        head = "\n".join(code.splitlines()[first - 1:number]).split("{")[0]
                        start = first if head.rstrip().endswith(")") else None
                    depth += 1
                elif character == "}":
                    depth -= 1
                    if depth == 0 and start is not None:
                        length = number - start + 1
                        if length > FUNCTION_LIMIT:
                            yield name, start, f"function of {length} lines, at most {FUNCTION_LIMIT}"
                        start = None
            if depth == 0 and line.rstrip().endswith((";", "}")):
                first = None


def file_length(tree):
    """A file is one concept: core files aim at 400 lines and have at most 600, backends 280."""
    for name, text in tree.files("core", "backends"):
        lines = len(text.splitlines())
        directory = name.split("/")[0]
        limit = SIZE_LIMITS.get(name, SIZE_LIMITS[directory])
        if lines > limit:
            yield name, lines, f"{lines} lines, at most {limit}"
        elif lines > SIZE_AIM.get(directory, limit):
            print(f"{name}:{lines}: note: {lines} lines, the aim is {SIZE_AIM[directory]}")


def text_form(tree):
    """Lines have at most 120 columns, no tabs and nothing at their end."""
    for name, text in tree.files("include", "core", "backends", "tests", "examples", "bench"):
        for number, line in enumerate(text.split("\n"), 1):
            if len(line) > COLUMN_LIMIT:
                yield name, number, f"{len(line)} columns, at most {COLUMN_LIMIT}"
            if "\t" in line or line != line.rstrip():
                yield name, number, "tab or trailing space"
        if text and not text.endswith("\n"):
            yield name, text.count("\n") + 1, "no newline at the end"


RULES = {rule.__name__: rule for rule in (
    os_conditionals, headers_include_no_os, backend_names, caps_unread, allocation, silence,
    backends_call_nobody, function_length, file_length, text_form)}

# For each rule: a file that breaks it in one place (path, text, line), and one that looks like it but is fine.
STATEMENT = "    x();\n"
SELF_TEST = {
    "os_conditionals": (("core/a.c", "\n#ifdef __linux__\n#endif\n", 2),
                        ("core/sys_posix.c", "#ifdef __linux__\n#endif\n/* _WIN32 */\n")),
    "headers_include_no_os": (("include/p2pnet/a.h", "#include <sys/socket.h>\n", 1),
                              ("include/p2pnet/b.h", "#include <p2pnet/base.h>\n#include <stdint.h>\n")),
    "backend_names": (("core/a.c", "/* epoll */\nint x = poll(0);\n", 2),
                      ("core/b.c", "// select\nint epoll_like, p2p_poll;\n")),
    "caps_unread": (("core/a.c", "int f(void) { return ops->caps; }\n", 1),
                    ("core/resolve.c", "int f(void) { return ops->caps; }\n")),
    "allocation": (("backends/a.c", "void *p = malloc (3);\n", 1),
                   ("core/b.c", "void f(void) { a->free(p); p2pi_free(p); a.alloc(1); } /* free(p) */\n")),
    "silence": (("core/a.c", "void f(void) { printf(\"\"); }\n", 1),
                ("core/b.c", "void f(void) { snprintf(b, 1, \"\"); env->exit(1); }\n")),
    "backends_call_nobody": (("backends/a.c", "void f(void) {\n    p2pi_registry_find(1);\n}\n", 2),
                             ("backends/b.c", "#include <p2pnet/backend.h>\n"
                                              "const p2p_backend_ops p2pi_backend_b = { .abi = 1 };\n")),
    "function_length": (("core/a.c", "int g(void);\n\nstatic int\nf(void) {\n" + STATEMENT * 68 + "}\n", 3),
                        ("core/b.c", "int f(void) {\n" + STATEMENT * 68 + "}\n"
                                     "int t[] = {\n" + "1,\n" * 90 + "};\n")),
    "file_length": (("backends/a.c", "\n" * 281, 281), ("core/b.c", "\n" * 390)),
    "text_form": (("tests/a.c", "int x;\n" + "/" * 121 + "\n", 2), ("tests/b.c", "/" * 120 + "\n")),
}


def self_test():
    failures = 0
    for rule, ((bad, bad_text, line), (good, good_text)) in SELF_TEST.items():
        with tempfile.TemporaryDirectory() as root:
            for name, text in ((bad, bad_text), (good, good_text)):
                path = pathlib.Path(root, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            found = [(name, number) for name, number, _ in RULES[rule](Tree(root))]
        ok = found == [(bad, line)]
        failures += not ok
        print(f"{rule}: {'noticed' if ok else f'expected {bad}:{line}, found {found}'}")
    missing = set(RULES) - set(SELF_TEST)
    for rule in sorted(missing):
        print(f"{rule}: not tested")
    return 1 if failures or missing else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("rule", nargs="?", choices=sorted(RULES))
    parser.add_argument("--root", default=pathlib.Path(__file__).resolve().parents[2])
    parser.add_argument("--list", action="store_true", help="print the rules")
    parser.add_argument("--self-test", action="store_true", help="see that each rule can fail")
    arguments = parser.parse_args()
    if arguments.list:
        for name, rule in RULES.items():
            print(f"{name}: {rule.__doc__}")
        return 0
    if arguments.self_test:
        return self_test()
    if arguments.rule is None:
        parser.error("which rule?")
    violations = list(RULES[arguments.rule](Tree(arguments.root)))
    for name, number, what in violations:
        print(f"{name}:{number}: {what}")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
