"""The agents: planner, coder, tester, critic and executor, each an entity of its own."""
