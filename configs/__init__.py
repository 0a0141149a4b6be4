"""Example configurations and the versioned tables a site may replace, as files of the package."""

from pathlib import Path

ROOT = Path(__file__).parent
