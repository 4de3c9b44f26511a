"""The words of every error that the report raises."""

import numpy as np
import pytest

from lorabench.report.markdown import cap
from lorabench.report.thumbnails import encode_webp


def test_thumbnail_edge() -> None:
    with pytest.raises(ValueError, match=r"^the longest edge of a thumbnail must be at least 1 pixel, got -3\. Give a"):
        encode_webp(np.zeros((4, 4, 3), dtype=np.uint8), max_edge=-3)


def test_summary_too_small_for_its_note() -> None:
    with pytest.raises(ValueError, match=r"got 5 bytes\. Allow at least 1024\.$"):
        cap("a summary\n", size_limit=5)
