"""The runners whose closing words are known, and how their words are found in an output."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from graphs.runners import javascript, managed, native, others, plain, python, scripts, tap
from graphs.runners.summary import Summary

Scanner = Callable[[list[str]], Iterator[Summary]]

KNOWN: tuple[Scanner, ...] = (
    python.pytest,
    python.unittest,
    python.tox,
    python.nox,
    tap.tap,
    tap.spec,
    tap.prove,
    javascript.mocha,
    javascript.jest,
    javascript.vitest,
    javascript.ava,
    javascript.jasmine,
    javascript.playwright,
    javascript.bun,
    javascript.deno,
    native.go,
    native.cargo,
    native.nextest,
    native.ctest,
    native.swift,
    managed.maven,
    managed.gradle,
    managed.dotnet,
    scripts.rspec,
    scripts.minitest,
    scripts.phpunit,
    scripts.mix,
    scripts.bats,
    others.googletest,
    others.catch,
    others.karma,
    others.dart,
    others.testthat,
)


def summaries(said: list[str]) -> list[Summary]:
    """Every runner's closing words in their order; those of an unknown one when nothing is sure."""
    found = sorted((summary for scan in KNOWN for summary in scan(said)), key=lambda summary: summary.line)
    if any(summary.sure and not summary.frame for summary in found):
        return found
    return [*found, *plain.plain(said)]
