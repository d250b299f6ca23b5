# Makes a C file of a file's bytes: cmake -D INPUT=file -D OUTPUT=file.c -D NAME=bench_page_css -P embed.cmake
file(READ ${INPUT} bytes HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
file(WRITE ${OUTPUT}
    "#include \"page/parts.h\"\n\n"
    "const unsigned char ${NAME}[] = {\n${bytes}\n};\n"
    "const size_t ${NAME}_size = sizeof ${NAME};\n")
