"""PyTorch's AdamW (foreach) on the tensors of configs/bench/optimizers.yaml, in as many processes at once as our benchmark has ranks.

Prints one JSON object: milliseconds a step, the slowest process, median over the steps. Only the update is timed.
"""
import argparse
import json
import multiprocessing
import queue
import statistics
import time


def shapes(layers, width, heads_width, experts, expert_width, vocabulary):
    """The stored tensors of one rank: projections fused as we fuse them, its experts stacked."""
    yield [vocabulary, width]
    for _ in range(layers):
        yield [width]
        yield [3 * heads_width, width]
        yield [width, heads_width]
        yield [width]
        yield [experts["all"], width]
        yield [experts["here"], 2 * expert_width, width]
        yield [experts["here"], width, expert_width]
    yield [width]
    yield [vocabulary, width]


def run(rank, arguments, barrier, results):
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(rank)
    experts = {"all": arguments.experts, "here": arguments.experts // arguments.ranks}
    parameters = []
    for shape in shapes(arguments.layers, arguments.width, arguments.width, experts, arguments.expert_width, arguments.vocabulary):
        parameter = torch.nn.Parameter(torch.randn(shape) * 0.02)
        parameter.grad = torch.randn(shape)
        parameters.append(parameter)
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, foreach=True)
    times = []
    for step in range(arguments.warmup + arguments.repeats):
        barrier.wait()
        started = time.perf_counter()
        optimizer.step()
        if step >= arguments.warmup:
            times.append(1000 * (time.perf_counter() - started))
    results.put((rank, times, sum(p.numel() for p in parameters), torch.__version__))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in dict(ranks=4, layers=8, width=512, experts=16, expert_width=480, vocabulary=256, warmup=3, repeats=15).items():
        parser.add_argument("--" + name.replace("_", "-"), type=int, default=value)
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(arguments.ranks), context.Queue()
    processes = [context.Process(target=run, args=(rank, arguments, barrier, results)) for rank in range(arguments.ranks)]
    for process in processes:
        process.start()
    reports = []
    while len(reports) < len(processes):
        try:
            reports.append(results.get(timeout=1))
        except queue.Empty:
            if any(process.exitcode for process in processes):  # one that failed would leave the others at the barrier
                for process in processes:
                    process.terminate()
                raise SystemExit("a process failed; its traceback is above")
    slowest = [max(times) for times in zip(*(times for _, times, _, _ in reports))]
    print(json.dumps({"optimizer_ms": statistics.median(slowest), "parameters_of_a_rank": reports[0][2], "torch": reports[0][3]}))
