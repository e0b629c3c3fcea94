"""Two tools for what the weather usually is, by a table in the folder; what it is now, nobody here knows."""

from typing import Annotated, TypedDict

from msgspec import Meta

from reprise import PluginRegistry, ToolError, tool

from .climate import MONTHS, TOWNS, normal


class Normals(TypedDict):
    """What is usual in a month."""

    town: str
    month: str
    celsius: float
    rain_mm: float


@tool(
    effects="pure",
    tags=["weather"],
    examples=[
        (
            {"town": "Southbay", "month": 7},
            {"town": "Southbay", "month": "July", "celsius": 25.0, "rain_mm": 2.0},
        )
    ],
)
def weather_normals(
    town: Annotated[str, "Northport, Eastvale, Southbay or Westmoor."],
    month: Annotated[int, Meta(ge=1, le=12), "1 to 12."],
) -> Normals:
    """Say what the weather usually is in a town in a month: mean temperature and rain. The towns are made up."""
    if town not in TOWNS:
        raise ToolError(
            "not_found", f"Nothing is known of {town!r}.", hint=f"Known: {', '.join(TOWNS)}.", field="$.town"
        )
    return {
        "town": town,
        "month": MONTHS[month - 1],
        "celsius": normal(town, "celsius", month),
        "rain_mm": normal(town, "rain_mm", month),
    }


@tool(effects="pure", tags=["weather"], examples=[({"month": 1, "at_least": 10}, ["Southbay"])])
def weather_warm_towns(
    month: Annotated[int, Meta(ge=1, le=12), "1 to 12."],
    at_least: Annotated[float, "Degrees Celsius."] = 20,
) -> list[str]:
    """List the towns that are usually warm in a month, the warmest first. The towns are made up."""
    warm = [town for town in TOWNS if normal(town, "celsius", month) >= at_least]
    return sorted(warm, key=lambda town: -normal(town, "celsius", month))


def register(registry: PluginRegistry) -> None:
    """Offer the tools; one on the day calls a tool of Reprise to know the month."""

    @tool(effects="pure", tags=["weather"])
    async def weather_on(
        town: str, day: Annotated[str, "A date, as people write it: 2026-07-14."]
    ) -> Normals:
        """Say what the weather usually is in a town on a day. The towns are made up."""
        iso = (await registry.execute_tool("time_parse", {"text": day}))["iso"]
        return weather_normals(town, int(iso[5:7]))

    for each in (weather_normals, weather_warm_towns, weather_on):
        registry.register_tool(each)
