"""Settings of fits from flat options."""

from dataclasses import fields

from sklearn_torch_gmm.em.estimation import MaximumLikelihood, Regularization
from sklearn_torch_gmm.em.settings import FitSettings, LoopSettings
from sklearn_torch_gmm.rows.random_numbers import RandomNumbers

LOOP = [field.name for field in fields(LoopSettings)]


def fit_settings(num_components, covariance_type, start, random_state, **options):
    loop = {name: options.pop(name) for name in LOOP if name in options}
    regularization = {
        name: options.pop(option)
        for name, option in [
            ("amount", "regularization"),
            ("keep_empty", "keep_empty"),
            ("keep_rounding", "keep_rounding"),
        ]
        if option in options
    }
    if "fixed" in options:
        options["estimation"] = MaximumLikelihood(options.pop("fixed"))
    return FitSettings(
        num_components,
        covariance_type,
        start,
        RandomNumbers(random_state),
        loop=LoopSettings(**loop),
        regularization=Regularization(**regularization),
        **options,
    )
