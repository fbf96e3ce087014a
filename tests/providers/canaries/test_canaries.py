"""The conformance suites notice each broken promise."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest

from tests.providers.canaries.broken import CANARIES, Canary
from tests.providers.test_memory import TestLifecycle, TestLock, TestPersistence, TestQueue, memory
