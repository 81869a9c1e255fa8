"""How fast this machine multiplies matrices and takes exponentials, which no attention can beat."""

from concurrent.futures import ThreadPoolExecutor
from statistics import median
from time import perf_counter

import numpy as np

from attention_ref.pipeline.tiled.blas import cores, kernel, one_thread

SIDE, ROUNDS = 512, 9


def rates(dtype):
    """{"gemm": flop/s of square products, "exp": seconds an exponential}, every core at work on its own; "blas"."""
    rng = np.random.default_rng(0)
    sides = [rng.standard_normal((3, SIDE, SIDE)).astype(dtype) for _ in range(cores())]

    def product(x):
        for _ in range(8):
            np.matmul(x[0], x[1], out=x[2])

    def exponential(x):
        for _ in range(8):
            np.exp(x[0], out=x[2])

    with one_thread(), ThreadPoolExecutor(cores()) as pool:
        gemm, exp = (timed(lambda work=work: list(pool.map(work, sides))) for work in (product, exponential))
    return {"gemm": cores() * 8 * 2 * SIDE**3 / gemm, "exp": exp / (cores() * 8 * SIDE**2), "blas": kernel()}


def timed(call):
    call()
    times = []
    for _ in range(ROUNDS):
        start = perf_counter()
        call()
        times.append(perf_counter() - start)
    return median(times)


def limit(speeds, pairs, width, backward):
    """The seconds that matrix products and exponentials alone take, with the scores computed again in backward."""
    products, exponentials = (7, 2) if backward else (2, 1)
    return pairs * (products * 2 * width / speeds["gemm"] + exponentials * speeds["exp"])
