"""llmproxy: an LLM gateway. Importing it does nothing; `llmproxy.app.create_app` builds one."""

__version__ = "0.1.0"
