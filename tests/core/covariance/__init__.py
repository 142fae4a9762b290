import pytest

# Asserts in modules that aren't named test_* are explained only when asked for.
pytest.register_assert_rewrite("tests.core.covariance.contract")
