"""The order desk sells what there is, once, also when it is opened again."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[3]


async def test_what_is_sold_is_ordered_and_delivered_once(tmp_path):
    spec = importlib.util.spec_from_file_location("order_desk", ROOT / "examples" / "order_desk" / "flow.py")
    flow = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(flow)
    wanted = {"sold": 20, "sold out": 10, "left": 0, "orders": 20, "parcels": 20}
    assert await flow.serve(tmp_path / "orders.db") == wanted
    assert await flow.serve(tmp_path / "orders.db") == wanted
