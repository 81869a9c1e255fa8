"""Tiles on a local dask cluster, with a worker killed in the middle."""

import os
import signal

import numpy as np
import pytest
from test_executors import problem, same_bits

import attention_ref as ar

pytestmark = pytest.mark.extra


@pytest.mark.filterwarnings("ignore")  # a killed worker is warned of, by dask, asyncio and tornado in turn
def test_a_local_cluster_and_a_worker_killed_in_the_middle():
    from dask.distributed import Client, LocalCluster

    with LocalCluster(2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        executor = client.get_executor()
        same_bits(executor)
        arrays, _, options = problem(400)
        want = ar.attention(*arrays, tile=16, **options).o
        victim = next(iter(cluster.workers.values())).pid
        client.loop.call_later(0.2, os.kill, victim, signal.SIGKILL)
        np.testing.assert_array_equal(ar.attention(*arrays, tile=16, executor=executor, **options).o, want)
