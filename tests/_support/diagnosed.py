"""A diagnosis made by hand, for what is drawn and said of one."""

import dataclasses

import numpy as np

import qra_jax as qra
from qra_jax.diagnosis import (
    Band,
    DiagnosedData,
    Diagnosis,
    DiagnosisSettings,
    Forecast,
    OpenPoint,
    PassAtKEstimate,
    RegimeEstimate,
    RLIFRisk,
    RLVREstimate,
    StartEstimate,
    StepForecast,
    TimeBand,
)
from qra_jax.plot import LN10

RNG = np.random.default_rng(4)


def bands(*shape: int) -> Band:
    """Three different arrays in order, no two entries alike."""
    return Band(*map(np.asarray, np.sort(RNG.random((3, *shape)), axis=0)))


def time_band(low, median, high, at_once=0.0, never=0.0, failed=0.0) -> TimeBand:
    ends = (np.array([x * LN10]) for x in (low, median, high))
    band = Band(*ends)
    return TimeBand(*(np.array([x]) for x in (at_once, never, failed)), band, band)


PLAIN = Diagnosis(
    data=DiagnosedData(
        patterns=("alpha", "beta", "gamma"),
        questions=("all questions",),
        weights=np.ones(1),
        samples=np.array([[5.0, 200, 95]]),
        correct=np.array([[4.0, 150, 10]]),
        num_questions=2,
        stuck=(),
    ),
    settings=DiagnosisSettings(
        pooling="pooled",
        prior=qra.posteriors.Prior(1.0, 2.0, 3.0),
        objective="RLVR",
        eps=0.05,
        draws=99,
        seed=0,
    ),
    start=StartEstimate(
        pattern_probs=bands(1, 3),
        success_rates=bands(1, 3),
        accuracy=Band(np.array(0.31), np.array(0.42), np.array(0.48)),
        strengths=None,
    ),
    regime=RegimeEstimate(
        probs=np.array([[0.03, 0.95, 0.02]]),
        best_probs=np.array([[0.9, 0.06, 0.04]]),
        misleading_probs=np.array([[0.05, 0.93, 0.01]]),
        gamma=Band(np.array([4.0]), np.array([6.5]), np.array([9.0])),
    ),
    rlvr=RLVREstimate(
        log_entanglement_time=time_band(1, 2, 3, at_once=0.03),
        log_convergence_time=time_band(2, 3, 5, never=0.25, failed=0.125),
        log_convergence_if_strong=bands(1),
        log_convergence_if_weak=bands(1),
        forecast=Forecast(
            np.linspace(-1, 6, 8), bands(8), bands(8, 3), bands(), bands(), bands(8), bands(8)
        ),
        step_forecast=StepForecast(
            np.arange(6),
            bands(6),
            bands(6, 3),
            Band(*(np.array(x * LN10) for x in (-2, -1, 0))),
            time_band(1.5, 3, 5),
            time_band(2, 4, 6, never=0.25),
            np.array([[2.0, 30, 40], [4, 35, 50]]),
            17.0,
            "",
        ),
        pass_at_k=PassAtKEstimate(
            np.array([1, 2, 8]),
            np.array([0.4, 0.6, np.nan]),
            np.array([3, 2, 0]),
            bands(3),
            bands(3),
        ),
        relative_duration=Band(*(np.log([x]) for x in (2.0, 7.0, 30.0))),
    ),
    rlif=RLIFRisk(
        "confidence",
        "over all",
        Band(*(x + np.array([0, 0, np.nan]) for x in dataclasses.astuple(bands(3)))),
        np.array([0.2, 0.8, 0.0]),
        0.37,
        Band(*(np.array(x) for x in (0.1, 0.2, 0.3))),
        300,
    ),
    open_points=(
        OpenPoint("regime", "one thing", 0.5, 0.9, 3100, 9000),
        OpenPoint("convergence time", "another", 2.0, 1.0, None, 9000),
    ),
    limits=(),
    status={"EVENT": 5},
)


def altered(**parts) -> Diagnosis:
    """The same with other fields in its parts, given as dictionaries, or with other parts."""
    new = {}
    for name, part in parts.items():
        known = getattr(PLAIN, name)
        nested = dataclasses.is_dataclass(known) and isinstance(part, dict)
        new[name] = dataclasses.replace(known, **part) if nested else part
    return dataclasses.replace(PLAIN, **new)
