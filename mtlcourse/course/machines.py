"""Instruction sets that one processor can be held to, to see here what another machine would print.

`python -m mtlcourse.course.machines avx2` prints the variables of a set as a shell takes them, for the Makefile.
Imports the standard library only.
"""

import sys

# What torch, its convolutions and its matrix products may use. Other processors than x86 ignore these variables. Those
# of numpy's OpenBLAS stay as the machine has them: on some it is told to avoid instructions that it gets wrong.
SETS = {
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "sse": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
}


def main(arguments: list[str]) -> None:
    if len(arguments) != 1 or arguments[0] not in SETS:
        sys.exit(f"Which instruction set? One of {', '.join(SETS)}, not {' '.join(arguments) or 'nothing'}.")
    print(*(f"{name}={value}" for name, value in SETS[arguments[0]].items()))


if __name__ == "__main__":
    main(sys.argv[1:])
