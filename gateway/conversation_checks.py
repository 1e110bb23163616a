"""The checks of a new conversation: it is refused at once for what its first turn would fail for.

- Its workspace must be a directory. It is looked for in the sandbox, which is started if it sleeps; one that
  is being made is not waited for (an image may have to be built), and the first turn tells.
- Its model must be one that can be asked: a script that exists; else a provider that litellm knows, with a
  key where one is certainly needed. The model entity judges that, in whose process the keys are. When it
  does not answer soon nothing is refused: a model is never refused on a guess.
"""

from __future__ import annotations

from actors.model import scripted
from gateway.routes import refused
from gateway.state import AppState
from schema import sandboxes
from terminalpp.types.errors import FileProblem, ModelUnknown, NotFound, TerminalError
from terminalpp.types.ids import Ref

MODEL = Ref("model", "0")
MODEL_S = 10.0  # litellm takes about 5 s to import, once


async def look_for(gateway: AppState, sandbox_id: str, workspace: str) -> None:
    """Raises InvalidInput when there is no such directory, and what the sandbox raises."""
    if (await sandboxes.get(gateway.database, sandbox_id)).status == "starting":
        return
    async with gateway.connections.to(sandbox_id) as access:
        try:
            kind = (await access.stat(workspace)).kind
        except (NotFound, FileProblem):
            kind = None
    if kind != "directory":
        there = f"is no directory but a {kind}" if kind else "there is no such directory in the sandbox"
        hint = "Put the project there first: PUT /v1/sandboxes/{id}/archive?path=…"
        raise refused("body.workspace", there, hint)


async def ask_about(gateway: AppState, model: str | None) -> None:
    """Raises ModelUnknown."""
    if model is None:
        return
    if scripted.is_scripted(model):
        scripted.load(model.removeprefix(scripted.PREFIX))
        return
    if gateway.settings.model_base_url or gateway.settings.model_api_key:
        return
    try:
        said = await gateway.runtime.call(MODEL, "judge", {"model": model}, timeout_s=MODEL_S)
    except TerminalError:
        return
    if said["problem"]:
        raise ModelUnknown(said["problem"], said["hint"])
