"""Fits, predictions and samples of every library, from the same parameters."""

import numpy as np

from benchmarks.timing import extra_bytes, once, timed


def _prepared(request, times=1):
    """The samples as the library wants them, and a model of some of them.

    Whatever is imported or set up at the first call is not what is measured.
    """
    peer, problem = request.peer, request.problem(times)
    model = peer.fit(peer.prepare(problem.head), problem.fit_of(1))
    return peer, problem, peer.prepare(problem.X), model


def fit(request):
    """Fits from given initial parameters, of two lengths."""
    peer, problem, X, _ = _prepared(request)
    short, long = (
        timed(peer.fit, X, problem.fit_of(number), wait=peer.synchronize)
        for number in problem.case.iterations
    )
    # What was done, not what was asked for: some libraries stop where nothing changes any more.
    few, many = peer.iterations(short.result), peer.iterations(long.result)
    whole, more = long.median / many, long.median - short.median
    # A difference may be lost in the noise: what is left is the mean.
    one = more / (many - few) if many > few and more > 0 else whole
    return {"per_iteration": one, "whole_per_iteration": whole, **_reached(peer, long)}


def fit_default(request):
    """A fit with the default initialization, until it converges."""
    peer, problem = request.peer, request.problem()
    estimator = peer.unfitted(problem.start)
    estimator.fit(peer.prepare(problem.head))
    X = peer.prepare(problem.X)

    def call():
        peer.forget()
        return estimator.fit(X)

    return _reached(peer, timed(call, wait=peer.synchronize))


def _reached(peer, timing):
    return {
        "seconds": timing.median,
        "iterations": peer.iterations(timing.result),
        "log_likelihood": peer.log_likelihood(timing.result),
    }


def inference(request):
    """The method that has the name of the task."""
    peer, problem, X, model = _prepared(request)
    call = peer.method(model, request.task)
    argument, first = X, peer.prepare(problem.head)
    if request.task == "sample":
        argument, first = len(problem.X), 10
    call(first)
    return {"seconds": timed(call, argument, wait=peer.synchronize).median}


def restarts(request, *, default):
    """Ten initializations in one fit, and ten fits that draw the same random numbers."""
    peer, problem = request.peer, request.problem()
    fixed = {"init_params": "random_from_data", "tol": 0.0, "max_iter": problem.case.iterations[1]}
    options = {} if default else fixed
    head, X = peer.prepare(problem.head), peer.prepare(problem.X)
    peer.unfitted(problem.start, n_init=2, **options).fit(head)

    def seconds(number, seed):
        estimator = peer.unfitted(problem.start, n_init=number, random_state=seed, **options)
        return once(estimator.fit, X, wait=peer.synchronize)

    together = seconds(10, np.random.RandomState(0))
    seed = np.random.RandomState(0)
    single = sum(seconds(1, seed) for _ in range(10)) / 10
    return {"seconds": together, "single": single, "single_fits": together / single}


def memory_of_fit(request, times=1):
    """Extra memory of two iterations, for so many times as many samples."""
    peer, problem, X, _ = _prepared(request, times)
    extra, _ = extra_bytes(peer.fit, X, problem.fit_of(2))
    return {"bytes": extra}


def memory_of_predict_proba(request):
    """Extra memory above that of the result."""
    peer, problem, X, model = _prepared(request)
    call = peer.method(model, "predict_proba")
    call(peer.prepare(problem.head))
    extra, result = extra_bytes(call, X)
    return {"bytes": max(0, extra - result.nbytes)}


def product(request):
    """The rate of a large product of matrices, by NumPy or torch."""
    size, options = 2_048, {"budget": 1.5, "warm": True}
    matrix = np.random.default_rng(0).normal(size=(size, size)).astype(request.dtype)
    if request.library == "torch":
        import torch

        matrix = torch.from_numpy(matrix).to(request.device)
        if request.device != "cpu":
            options["wait"] = torch.cuda.synchronize
    return {"flops_per_second": 2 * size**3 / timed(lambda: matrix @ matrix, **options).median}
