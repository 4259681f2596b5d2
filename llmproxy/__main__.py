"""`python -m llmproxy` is the `llmproxy` command."""

import sys

from .cli import main

sys.exit(main())
