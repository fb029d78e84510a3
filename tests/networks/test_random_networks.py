import numpy as np
import pytest

import networks
from tests.random_networks import random_conv, random_dense, random_residual


@pytest.mark.parametrize("make", [random_dense, random_conv, random_residual])
def test_seeded(make):
    first, again, other = make(3), make(3), make(4)
    assert first.sha256 == again.sha256 != other.sha256
    x = np.ones((2, first.inputs))
    assert (networks.evaluate(first, x) == networks.evaluate(again, x)).all()
