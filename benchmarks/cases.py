"""What measurements are taken on: sizes of data."""

from dataclasses import dataclass

COVARIANCES = ("full", "tied", "diag", "spherical")
DTYPES = ("float64", "float32")


@dataclass(frozen=True)
class Case:
    """N samples of D features, K components, and the kind of data.

    Attributes
    ----------
    iterations : (int, int)
        The time of an iteration is the difference between fits of so many, divided by their number:
        what a fit costs once, whatever the number of iterations, is left out of it and told apart.
    condition : float
        Ratio of the largest to the smallest eigenvalue of a component's covariance.
    """

    name: str
    rows: int
    features: int
    components: int
    iterations: tuple[int, int]
    condition: float = 10.0
    is_real: bool = False

    @property
    def title(self):
        if self.is_real:
            return self.name.replace("-", " ")
        rows = f"{self.rows:,}".replace(",000", "k").replace("kk", "M")
        size = f"[{rows}, {self.features}] → {self.components}"
        return size if self.condition <= 10 else f"{size}, condition {self.condition:.0e}"

    def flops(self, covariance):
        """Arithmetic of the two matrix products that an EM iteration consists of."""
        features = self.features
        squares = features * (features + 1) // 2
        second = {"full": squares, "tied": 0, "diag": features, "spherical": 1}[covariance]
        return 4.0 * self.rows * self.components * (1 + features + second)


CASES = {
    case.name: case
    for case in (
        Case("tiny", 300, 2, 2, (1, 3)),
        Case("iris", 150, 4, 3, (1, 11), is_real=True),
        Case("wine", 178, 13, 3, (1, 11), is_real=True),
        Case("breast-cancer", 569, 30, 2, (1, 11), is_real=True),
        Case("digits-20", 1_797, 20, 10, (1, 11), is_real=True),
        Case("100-2-4", 100, 2, 4, (1, 11)),
        Case("500-10-4", 500, 10, 4, (1, 11)),
        Case("30k-8-8", 30_000, 8, 8, (1, 11)),
        Case("100k-8-4", 100_000, 8, 4, (1, 11)),
        Case("20k-10-30", 20_000, 10, 30, (1, 11)),
        Case("10k-8-4", 10_000, 8, 4, (5, 55)),
        Case("100k-32-16", 100_000, 32, 16, (1, 6)),
        Case("100k-32-16-ill", 100_000, 32, 16, (1, 6), condition=1e5),
        Case("1m-64-64", 1_000_000, 64, 64, (1, 7)),
        Case("2k-256-8", 2_000, 256, 8, (1, 11)),
        Case("1m-2-10", 1_000_000, 2, 10, (1, 6)),
        Case("100k-16-200", 100_000, 16, 200, (1, 4)),
        Case("60k-32-16", 60_000, 32, 16, (1, 11)),
    )
}
