"""litellm behind our door: streams, prices, capabilities and failures, against a real loopback server."""

from __future__ import annotations

import pytest

from actors.model import failures, provider, scripted
from actors.model.replies import Reply, Usage
from runtime import settings as settings_module
from runtime.model_keys import ModelKeys
from terminalpp.types import errors
from terminalpp.types.providers import DEFAULTS
from tests.model_server.server import ModelServer

HELLO = {"content": "Hello there, this is a recorded reply."}
CALL = {"content": "", "tool_calls": [{"name": "bash", "arguments": {"command": "ls"}}]}


def settings_for(tmp_path, **more):
    environ = {"TPP_HOME": str(tmp_path)} | {
        f"TPP_{name.upper()}": str(value) for name, value in more.items()
    }
    return settings_module.load(environ)


@pytest.fixture
async def serve():
    servers = []

    async def start(*replies, key=None, then=None):
        scene = {"replies": list(replies)} | ({"then": then} if then else {})
        server = await ModelServer({"model": "recorded-1", "scenes": [scene]}, key).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        await server.stop()


async def ask(server, tmp_path, model="recorded-1", **more):
    settings = settings_for(tmp_path, model_base_url=server.base_url, **more)
    reply = Reply()
    request = {"model": model, "messages": [{"role": "user", "content": "hi"}], "agent": "coder"}
    try:
        async for chunk in provider.stream(request, settings):
            reply.add(chunk)
    except Exception as problem:
        raise failures.translate(problem, model) from problem
    reply.check()
    return reply


async def test_streams_text_and_usage(serve, tmp_path):
    reply = await ask(await serve(HELLO), tmp_path)
    assert reply.content == HELLO["content"]
    assert reply.usage == Usage(100, 20, 0)
    assert reply.finish_reason == "stop"


async def test_tool_calls_are_put_together(serve, tmp_path):
    reply = await ask(await serve(CALL), tmp_path)
    assert reply.tool_calls() == [{"id": "call_0", "name": "bash", "arguments": {"command": "ls"}}]


async def test_arguments_that_are_not_json_stay_a_string(serve, tmp_path):
    bad = {"content": "", "tool_calls": [{"name": "bash", "arguments": "{broken"}]}
    reply = await ask(await serve(bad), tmp_path)
    assert reply.tool_calls()[0]["arguments"] == "{broken"


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        ({"status": 429, "times": 9}, errors.ModelOverloaded),
        ({"status": 500, "times": 9}, errors.ModelOverloaded),
        ({"status": 503, "times": 9}, errors.ModelOverloaded),
        ({"content": ""}, errors.ModelReplyInvalid),
        ({"raw": "<html>not json</html>", "type": "text/html"}, errors.ModelReplyInvalid),
        ({"content": "half a sen", "finish_reason": "length"}, errors.ModelReplyCut),
    ],
)
async def test_faults_have_names(serve, tmp_path, reply, error):
    with pytest.raises(error):
        await ask(await serve(reply), tmp_path)


async def test_wrong_key(serve, tmp_path):
    with pytest.raises(errors.ModelKeyRejected):
        await ask(await serve(HELLO, key="right"), tmp_path, model_api_key="wrong")


async def test_unknown_model(serve, tmp_path):
    with pytest.raises(errors.ModelUnknown):
        await ask(await serve(HELLO), tmp_path, model="no-such-model")


async def test_refused_connection(serve, tmp_path):
    server = await serve(HELLO)
    await server.stop()
    with pytest.raises(errors.ModelUnreachable):
        await ask(server, tmp_path)


async def test_a_cut_stream_is_not_a_reply(serve, tmp_path):
    with pytest.raises(errors.TerminalError) as caught:
        await ask(await serve(HELLO | {"cut_after": 2}), tmp_path)
    assert caught.value.code.startswith("model-")


async def test_scripted_model_through_litellm(tmp_path):
    reply = Reply()
    request = {"model": "scripted:demo", "agent": "coder", "messages": [{"role": "user", "content": "fix"}]}
    async for chunk in provider.stream(request, settings_for(tmp_path)):
        reply.add(chunk)
    reply.check()
    assert reply.tool_calls()[0]["name"] == "bash"
    assert reply.finish_reason == "tool_calls"


def test_a_script_is_followed_by_what_was_answered():
    script = {
        "roles": {
            "coder": [
                {"when": "other task", "replies": [{"content": "other"}], "then": "last"},
                {"replies": [{"content": "one"}, {"content": "two"}]},
            ]
        }
    }
    asked = [{"role": "user", "content": "a task"}]
    assert scripted.next_reply(script, "coder", asked)["content"] == "one"
    asked.append({"role": "assistant", "content": "one"})
    assert scripted.next_reply(script, "coder", asked)["content"] == "two"
    asked.append({"role": "assistant", "content": "two"})
    with pytest.raises(errors.ModelReplyInvalid):
        scripted.next_reply(script, "coder", asked)
    other = [{"role": "user", "content": "the other task"}] + [{"role": "assistant", "content": ""}] * 5
    assert scripted.next_reply(script, "coder", other)["content"] == "other"


def test_an_unknown_script_names_the_known_ones(tmp_path):
    with pytest.raises(errors.ModelUnknown) as caught:
        provider.capabilities("scripted:nothing", settings_for(tmp_path))
    assert "scripted:demo" in caught.value.next_step


def test_prices_come_from_raw_usage(tmp_path):
    settings = settings_for(tmp_path)
    usage = Usage(input_tokens=1000, output_tokens=100, cached_tokens=400)
    info = provider._info("gpt-4o")
    expected = (
        600 * info["input_cost_per_token"]
        + 400 * info["cache_read_input_token_cost"]
        + 100 * info["output_cost_per_token"]
    )
    assert provider.price_usd("gpt-4o", usage, settings) == pytest.approx(expected)
    assert provider.price_usd("scripted:demo", usage, settings) == 0.0
    assert provider.price_usd("nobody/knows-this", usage, settings) is None


def test_capabilities(tmp_path):
    assert provider.capabilities("gpt-4o", settings_for(tmp_path))["native_tools"] is True
    assert (
        provider.capabilities("gpt-4o", settings_for(tmp_path, model_tools="text"))["native_tools"] is False
    )
    assert provider.capabilities("scripted:demo", settings_for(tmp_path))["scripted"] is True


@pytest.mark.parametrize(
    ("model", "environ", "word"),
    [
        ("openai/gpt-4o", {}, "no key for openai"),
        ("gpt-4o", {}, "no key for openai"),
        ("openai/gpt-4o", {"OPENAI_API_KEY": "k"}, ""),
        ("openai/mine", {"OPENAI_API_BASE": "http://localhost:1"}, ""),
        ("gemini/gemini-2.0-flash", {"GOOGLE_API_KEY": "k"}, ""),
        ("gemini/gemini-2.0-flash", {"OPENAI_API_KEY": "k"}, "no key for gemini"),
        ("nobody-has-made-this", {}, "no provider"),
        ("nobody/has-made-this", {}, "no provider"),
        ("ollama/llama3", {}, ""),
        ("hosted_vllm/x", {}, ""),
        ("lm_studio/x", {}, ""),
        ("bedrock/anthropic.claude-3", {}, ""),
        ("openrouter/a/b", {}, ""),
    ],
)
def test_only_what_certainly_cannot_work_is_refused(model, environ, word):
    problem, hint = provider.problem(model, environ)
    assert bool(problem) == bool(word) == bool(hint)
    assert word in problem


def test_the_default_model_of_every_key_is_accepted_with_it():
    for key, model in DEFAULTS.items():
        assert provider.problem(model, {key: "k"}) == ("", ""), model
        assert provider.problem(model, {})[0], model


async def test_a_stored_key_is_used_at_once_and_outranks_the_environments(serve, tmp_path, monkeypatch):
    """`tests.model_server` stands for the provider, by the variable that litellm reads for OpenAI."""
    (tmp_path / "secrets").mkdir()
    server = await serve(HELLO, HELLO, key="right")
    monkeypatch.setenv("OPENAI_API_KEY", "wrong")
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    hi = [{"role": "user", "content": "hi"}]
    request = {"model": "openai/recorded-1", "messages": hi, "agent": "coder"}

    async def said():
        reply = Reply()
        try:
            async for chunk in provider.stream(request, settings_for(tmp_path)):
                reply.add(chunk)
        except Exception as problem:
            raise failures.translate(problem, request["model"]) from problem
        return reply.content

    with pytest.raises(errors.ModelKeyRejected):
        await said()
    keys = ModelKeys(tmp_path)
    keys.add("openai", "right")
    assert await said() == HELLO["content"]
    keys.add("openai", "of yesterday")
    with pytest.raises(errors.ModelKeyRejected):
        await said()


async def test_a_stored_key_never_goes_to_another_server(serve, tmp_path):
    (tmp_path / "secrets").mkdir()
    ModelKeys(tmp_path).add("openai", "right")
    with pytest.raises(errors.ModelKeyRejected):  # the server of TPP_MODEL_BASE_URL would take this key
        await ask(await serve(HELLO, key="right"), tmp_path, model="openai/recorded-1")


def test_a_model_whose_key_is_stored_may_be_asked():
    assert provider.problem("openai/gpt-4o", {})[1] == "Give it one: `./tpp model add openai`."
    assert provider.problem("openai/gpt-4o", {}, {"openai"}) == ("", "")
    assert provider.problem("mistral/mistral-large-latest", {}, {"openai"})[0]
