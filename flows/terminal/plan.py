"""A plan in words."""

from collections.abc import Iterator, Mapping
from typing import Any

from psomerge.tasks.report.wording import count, duration, size


def lines(plan: Mapping[str, Any]) -> list[str]:
    """Returns the plan of `flows.commands.plan.describe` for people."""
    return [
        f"config {plan['config']}, home {plan['home']}",
        f"suite {plan['suite']['name']}: {', '.join(plan['suite']['benchmarks'])}",
        f"items: {_items(plan['suite'])}",
        *([plan["suite"]["left_out"]] if plan["suite"]["left_out"] else []),
        *([f"items: {plan['suite']['equal']}"] if plan["suite"]["equal"] else []),
        *_models(plan),
        *([f"an unfinished run goes on: it began on {plan['goes_on_since']}"] if plan["goes_on_since"] else []),
        *(f"moved: {line}" for line in plan["moved"]),
        f"tokenizer: {plan['tokenizer'] or 'known once all models are here'}",
        f"search: {plan['particles']} particles from {plan['experts']} experts, {plan['steps']} steps, initial swarm "
        f"{', then '.join(plan['swarms'])}",
        f"judgements: at most {count(plan['judgements'])}, on {plan['threads']} of {plan['cores']} cores",
        f"time: {_time(plan)}",
        _memory(plan["memory"]),
        _disk(plan),
        " at ".join(filter(None, (f"registers models:/{plan['register_as']}", plan["registry"]))),
        *(f"warning: {warning}" for warning in plan["warnings"]),
    ]


def _items(suite: Mapping[str, Any]) -> str:
    unseen = suite["unseen"]
    tokens = suite["tokens"]
    known = ", ".join(
        f"{count(number)} {split}{f' (at most {count(tokens[split])} tokens)' if tokens else ''}"
        for split, number in suite["items"].items()
    )
    if len(unseen) == len(suite["benchmarks"]):
        return "known once the data sets are fetched"
    beside = f"; those of {len(unseen)} benchmarks are known once their data sets are fetched" if unseen else ""
    return f"{known}{beside}"


def _time(plan: Mapping[str, Any]) -> str:
    beside = "what is to be trained or fetched comes on top"
    if plan["seconds"] is not None:
        return f"about {duration(plan['seconds'])}, as in the last run of this suite; {beside}"
    return "known after a first run of this suite"


def _models(plan: Mapping[str, Any]) -> Iterator[str]:
    for name, one in plan["models"].items():
        where = (
            one["address"]
            if one["address"] == one["source"]
            else f"{one['address']}, which is {one['source'].rpartition('@')[2]}"
        )
        partly = (
            f", {size(one['bytes'] - one['download_bytes'])} of them here"
            if one["bytes"] > one["download_bytes"] > 0
            else ""
        )
        what = {
            "here": f"here, {size(one['bytes'])}",
            "to train": "to be trained here, minutes",
            "to fetch": "to fetch",
        }[one["state"]]
        if one["download_files"]:
            what = f"to fetch, {size(one['download_bytes'])} in {one['download_files']} files{partly}"
        yield f"{name}: {where}: {what}"
    waiting = plan["to_fetch"]
    total = plan["disk"]["download_bytes"]
    yield (
        f"train or fetch: {', '.join(waiting)}{f'; {size(total)} in all' if total else ''}"
        if waiting
        else "nothing to fetch: base and experts are here"
    )


def _memory(memory: Mapping[str, Any] | None) -> str:
    if memory is None:
        return "memory: known once the base is here"
    dtype = "" if memory["dtype"] == "base" else f" in {memory['dtype']}"
    parts = (
        f"{size(memory['model_bytes'])} the model judged{dtype}, {size(memory['kv_cache_bytes'])} KV cache, "
        f"{size(memory['workspace_bytes'])} tensors in work"
    )
    mapped = (
        f"{size(memory['mapped_bytes'])} of base and experts are mapped files, read again at each swap if they find "
        "no room beside it"
    )
    where = (
        f"{memory['device']} has {size(memory['device_bytes'])}"
        if memory["device"] != "cpu"
        else f"{size(memory['device_bytes'])} are there"
    )
    return f"memory: {size(memory['held_bytes'])} ({parts}), and the engine's own; {where}; {mapped}"


def _disk(plan: Mapping[str, Any]) -> str:
    disk = plan["disk"]
    if not plan["memory"]:
        return f"disk: {size(disk['free_bytes'])} free"
    fetched = f"{size(disk['download_bytes'])} to fetch, " if disk["download_bytes"] else ""
    written = (
        f"{size(disk['written_bytes'])} for the merged model and its copies"
        if disk["written_bytes"]
        else "nothing to write"
    )
    return f"disk: {size(disk['needed_bytes'])} of {size(disk['free_bytes'])} free ({fetched}{written})"
