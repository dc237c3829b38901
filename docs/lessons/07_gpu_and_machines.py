# %% [markdown]
"""Lesson 7: on a GPU, and on several machines.

Nothing in a Jittor program names a device: `jt.flags.use_cuda = 1` moves everything that is
computed from then on to the GPU. Several processes, on one machine or many, are started by mpirun;
each is one rank with a share of every batch, and Jittor's optimisers average the gradients by
themselves. Why that is right: the gradient of a mean over a batch is the mean of the gradients over
its equal shares. We check that here with two shares in one process, and print what this machine
could do.

第七课：GPU 与多机。

Jittor 程序里不写设备名：`jt.flags.use_cuda = 1` 之后的计算都在 GPU 上进行。
多个进程（一台或多台机器）由 mpirun 启动，每个进程是一个 rank，分到每个批次的一份，Jittor
的优化器会自动平均梯度。为什么正确：整个批次平均损失的梯度，等于各等份梯度的平均。
这里我们在一个进程里用两份数据验证这一点，并打印本机能做什么。

    python docs/lessons/07_gpu_and_machines.py
    mpirun -np 2 python docs/lessons/07_gpu_and_machines.py        # with MPI and its headers
    installed / 需要安装 MPI
"""

# %%
from jgrid import MulFAGridConfig
from jgrid.field import DecoderConfig, Domain

import jittor as jt
import numpy as np

if jt.has_cuda:
    # before variables are made, so that nothing is copied later / 先设置，再创建变量
    jt.flags.use_cuda = 1
    print("computing on the GPU / 在 GPU 上计算")
else:
    print(
        "no usable CUDA: on a machine with one, jt.flags.use_cuda = 1 (the apps: --device cuda)"
        " would move all of this to the GPU; python -m jgrid.runtime says what is missing /"
        " 没有可用的 CUDA，用 python -m jgrid.runtime 查看原因"
    )

# %%
if jt.in_mpi:
    print(f"rank {jt.rank} of {jt.world_size}")
    # every rank draws other numbers, so their weights must be made equal once; and no Jittor call
    # inside `if jt.rank == 0:`, the others would wait for ever / 各 rank 的随机数不同，
    # 权重要先统一；不要在 `if jt.rank == 0:` 里调用 Jittor，否则其他进程会一直等待
else:
    print(
        "one process: mpirun -np 2 python THIS would start two ranks, each with half of every batch"
        " / 单进程"
    )

# %%
jt.set_global_seed(0)
np.random.seed(0)
model = MulFAGridConfig(finest=16, coarsest=4, channels=2, decoder=DecoderConfig(width=16)).build(
    Domain(2, 3)
)
if jt.in_mpi:
    model.mpi_param_broadcast(0)
rng = np.random.default_rng(0)
x = rng.uniform(size=(4096, 2)).astype(np.float32)
y = rng.uniform(size=(4096, 3)).astype(np.float32)


def gradients(rows):
    """Of the mean squared error over some rows of the batch. / 部分批次上的梯度。"""
    loss = ((model(jt.array(x[rows])) - jt.array(y[rows])) ** 2).mean()
    parameters = [p for group in model.parameter_groups() for p in group["params"]]
    return [g.numpy() for g in jt.grad(loss, parameters)]


# %%
whole = gradients(slice(None))
# what two ranks would compute / 两个 rank 各自的结果
shares = [gradients(slice(rank, None, 2)) for rank in (0, 1)]
# what mpi_all_reduce("mean") gives to both / 全归约后的平均
mean = [np.mean(pair, axis=0) for pair in zip(*shares)]
error = max(np.abs(a - b).max() / np.abs(a).max() for a, b in zip(whole, mean))
print(
    f"gradient of the batch against the mean of two shares: they differ by {error:.1e} of the"
    " largest"
)
assert error < 1e-4
