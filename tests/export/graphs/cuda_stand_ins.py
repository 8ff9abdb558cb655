"""Stand-ins for CUDA's libraries, with which ONNX Runtime places graphs on a GPU that isn't there.

Its CUDA provider needs these libraries to load, and asks them for a device and memory as a session is opened.
Stand-ins answer with success, a made-up device and memory of the host; those of `COUNTED` also say on stderr
what is allocated, captured and launched. Placement is decided before any kernel runs. Kernels do nothing:
outputs are arbitrary.
"""

from __future__ import annotations

import subprocess
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import onnxruntime as ort

PROVIDER = Path(ort.__file__).parent / "capi" / "libonnxruntime_providers_cuda.so"
# Functions of C by name, with # for the name: those that must give more than success.
HANDLE = "int #(void **made, int flags) { *made = malloc(1); return 0; }"
ALLOCATE = "int #(void **made, size_t n) { *made = aligned_alloc(512, (n + 511) / 512 * 512); return 0; }"
FREE = "int #(void *made) { free(made); return 0; }"
COPY = "int #(void *to, const void *from, size_t n) { memcpy(to, from, n); return 0; }"
FILL = "int #(void *to, int byte, size_t n) { memset(to, byte, n); return 0; }"
TEXT = 'const char *#(int error) { return "stand-in"; }'
VERSION = "int #(int *n) { *n = 13000; return 0; }"
FUNCTIONS = {
    "__cudaRegisterFatBinary": "void **#(void *image) { static void *made; return &made; }",
    "cublasCreate_v2": HANDLE,
    "cublasGetStatusName": TEXT,
    "cublasGetStatusString": TEXT,
    "cublasLtCreate": HANDLE,
    # 75 and 76: the compute capability, 9.0.
    "cudaDeviceGetAttribute": "int #(int *n, int of) { *n = of == 75 ? 9 : of == 76 ? 0 : 1024; return 0; }",
    "cudaDriverGetVersion": VERSION,
    "cudaEventCreate": HANDLE,
    "cudaEventCreateWithFlags": HANDLE,
    "cudaFree": FREE,
    "cudaFreeHost": FREE,
    "cudaGetDevice": "int #(int *n) { *n = 0; return 0; }",
    "cudaGetDeviceCount": "int #(int *n) { *n = 1; return 0; }",
    "cudaGetErrorName": TEXT,
    "cudaGetErrorString": TEXT,
    "cudaHostAlloc": ALLOCATE,
    "cudaMalloc": ALLOCATE,
    "cudaMallocHost": ALLOCATE,
    "cudaMemGetInfo": "int #(size_t *left, size_t *all) { *left = *all = 1ull << 34; return 0; }",
    "cudaMemcpy": COPY,
    "cudaMemcpyAsync": COPY,
    "cudaMemset": FILL,
    "cudaMemsetAsync": FILL,
    "cudaRuntimeGetVersion": VERSION,
    "cudaStreamCreate": HANDLE,
    "cudaStreamCreateWithFlags": HANDLE,
}
# The same for those whose calls are counted.
COUNTED = {
    "cudaMalloc": 'int #(void **made, size_t n) { fprintf(stderr, "# %zu\\n", n); '
    "*made = aligned_alloc(512, (n + 511) / 512 * 512); return 0; }",
    "cudaStreamBeginCapture": 'int #(void) { fprintf(stderr, "#\\n"); return 0; }',
    "cudaStreamEndCapture": "int #(void *stream, void **made) { *made = malloc(1); return 0; }",
    "cudaGraphInstantiate": "int #(void **made) { *made = malloc(1); return 0; }",
    "cudaGraphLaunch": 'int #(void) { fprintf(stderr, "#\\n"); return 0; }',
}


def build(folder: Path, functions: Mapping[str, str] = {}) -> None:
    """Compile a stand-in for each library that the provider needs and that is not a usual one of Linux.

    `functions`: as `FUNCTIONS`, for names that do more. Needs gcc, nm and readelf.
    """
    needed = [
        line.split("[")[1].rstrip("]")
        for line in _output("readelf", "-d", PROVIDER)
        if "(NEEDED)" in line and "[libcu" in line
    ]
    names: dict[str, list[str]] = defaultdict(list)
    for line in _output("nm", "-D", "--undefined-only", PROVIDER):
        name, _, library = line.split()[-1].partition("@")
        if library in needed:
            names[library].append(name)
        elif name.startswith("cu") and not library:
            names["libcuda.so.1"].append(name)
    for library in needed:
        _compile(folder, library, names[library], {**FUNCTIONS, **functions})


def _compile(folder: Path, library: str, names: list[str], known: Mapping[str, str]) -> None:
    source, versions = folder / f"{library}.c", folder / f"{library}.map"
    functions = [known.get(name, "int #(void) { return 0; }").replace("#", name) for name in names]
    source.write_text("#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n" + "\n".join(functions))
    # The provider asks for names of this version, which is the name of the library.
    versions.write_text(f"{library} {{ global: *; }};")
    flags = ["-w", "-shared", "-fPIC", "-fno-builtin", f"-Wl,-soname,{library},--version-script={versions}"]
    subprocess.run(["gcc", *flags, "-o", folder / library, source], check=True)


def _output(*command: str | Path) -> list[str]:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
