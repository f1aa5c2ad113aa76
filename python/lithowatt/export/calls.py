"""Calls for the page of this machine's agent; see `hand_in`."""

from __future__ import annotations

from lithowatt._support.calls import hand_in

__all__ = ["hand_in"]
