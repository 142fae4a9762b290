"""The names of parameters, which a class remembers."""

from sklearn.base import clone

from sklearn_torch_gmm.mixture import GaussianMixture


def test_names_of_parameters_are_those_of_each_class_and_of_its_present_constructor(monkeypatch):
    class Own(GaussianMixture):
        def __init__(self, n_components=2, *, colour="red"):
            super().__init__(n_components)
            self.colour = colour

    for _ in range(2):
        assert list(Own().get_params()) == ["colour", "n_components"]
        assert "colour" not in GaussianMixture().get_params()

    def smaller(self, n_components=2):
        GaussianMixture.__init__(self, n_components)

    # As a program does that patches a class.
    monkeypatch.setattr(Own, "__init__", smaller)
    assert list(Own().get_params()) == ["n_components"]
    assert clone(Own(3)).n_components == 3
