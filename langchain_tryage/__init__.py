"""Tryage for LangChain."""
