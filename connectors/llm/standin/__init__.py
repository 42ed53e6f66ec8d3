"""A stand-in for an OpenAI-compatible LLM server, for one machine and for tests. Not a language model.

It behaves like vLLM as far as the pipeline can tell: slots and a queue, latency per token,
`response_format` with a JSON schema, `structured_outputs.choice`, logprobs, usage, errors, `/metrics`.
Its labels come from the words of the taxonomy, its variants from fixed rewordings. Start it with
`python -m connectors.llm.standin --port 8000 --taxonomy taxonomy.yaml`.
"""
