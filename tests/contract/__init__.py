"""The contract of every engine. An engine's test class inherits all of it and supplies two things:

    @pytest.mark.engine("sqlite")
    class TestSqliteStore(ImageStoreContract):
        @pytest.fixture
        def library(self, tmp_path): ...       # whatever names one library, EMPTY at first and removed afterwards
        def open_library(self, library): ...   # a new handle on it, as another process would have

The tests stand beside this file, by topic. Orders are compared exactly, distances by approx.
"""

from __future__ import annotations

from tests.contract.filters import FilterContract
from tests.contract.frames import FrameContract
from tests.contract.layers import LayerContract
from tests.contract.lists import ListContract
from tests.contract.models import ModelContract
from tests.contract.paths import PathContract
from tests.contract.recognized import RecognizedContract
from tests.contract.registration import RegistrationContract
from tests.contract.search import SearchContract
from tests.contract.sharing import SharingContract
from tests.contract.token_rule import TokenRuleContract
from tests.contract.trash import TrashContract
from tests.contract.words import WordContract


class ContractWithoutIndex(
    ModelContract,
    RegistrationContract,
    PathContract,
    LayerContract,
    FrameContract,
    TrashContract,
    SearchContract,
    FilterContract,
    ListContract,
    WordContract,
    RecognizedContract,
    SharingContract,
):
    """All but how an index of tokens is kept up to date, for stores that have none."""


class ImageStoreContract(ContractWithoutIndex, TokenRuleContract):
    """Not collected by itself: its name does not begin with Test."""
