"""Scores translations with COMET; run by the interpreter of an environment that has it (`evals.scorers.comet`), so it
imports nothing of psomerge.

In, as JSON on standard input: `model`, `batch_size`, `gpus`, `data` (a list of `src`, `mt`, `ref`). Out, as JSON on
standard output: the scores, in order.
"""

import json
import os
import sys


def main() -> None:
    """Reads the request, writes the scores; all that COMET prints goes to standard error."""
    del sys.path[0]  # this file's folder: its `comet.py` is not the COMET that is meant
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    from comet import download_model, load_from_checkpoint  # pyright: ignore

    request = json.load(sys.stdin)
    model = load_from_checkpoint(download_model(request["model"]))
    prediction = model.predict(
        request["data"], batch_size=request["batch_size"], gpus=request["gpus"], progress_bar=False
    )
    json.dump([float(score) for score in prediction.scores], answers)
    answers.close()


if __name__ == "__main__":
    main()
