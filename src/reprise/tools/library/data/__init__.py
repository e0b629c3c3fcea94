"""Tools for data: tables of rows, nested values, documents.

Tables are worked on in plain Python, whatever their size. A library of columns (polars) is slower at it from ten rows to a
hundred thousand, as making columns of JSON and JSON of columns takes longer than what is done between; and it makes one
kind of what is several: ``1`` beside ``"x"`` becomes ``"1"``, a sum over 64 bits becomes another number.
"""

from __future__ import annotations

from reprise.tools.library.data.converting import data_convert
from reprise.tools.library.data.filtering import data_dedupe, data_filter, data_sort
from reprise.tools.library.data.grouping import data_aggregate, data_pivot, data_profile
from reprise.tools.library.data.joining import data_join
from reprise.tools.library.data.querying import data_query
from reprise.tools.library.data.validating import data_validate
from reprise.tools.tool import Tool

TOOLS: list[Tool] = [
    data_filter, data_sort, data_aggregate, data_pivot, data_join, data_dedupe, data_query, data_convert, data_validate,
    data_profile,
]  # fmt: skip
