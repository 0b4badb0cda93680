"""The wires of the providers: seven formats, and one table of who speaks which with what differences (``dialects``).

``wire`` says what a format is; each other module is one. The forms follow the providers' API references.

wire       what a format is
dialects   the providers: which format each speaks, and with what differences
chat       OpenAI's chat completions
responses  OpenAI's Responses
anthropic  Anthropic's messages
converse   Bedrock's Converse
gemini     Gemini's generateContent
ollama     Ollama's chat
"""
