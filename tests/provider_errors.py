"""What providers and gateways answer when a call fails: each text with its status, its wire, what it means here, and its source.

``wire`` says how a text is wrapped (``WIRES``); a ``dict`` is a body of its own. ``means`` is a code of the contract, ``quota`` for
a rate limit that paying ends, or the humbler form in which the call is made again.
"""

# ruff: noqa: E501 - an answer on a line
from collections.abc import Callable
from typing import Any, NamedTuple

PI = "badlogic/pi-mono packages/ai/src/utils/overflow.ts"
HELM = "stanford-crfm/helm src/helm/clients/openai_client.py"
HERMES = "NousResearch/hermes-agent agent/error_classifier.py"
OPENCLAW = "openclaw/openclaw src/agents/pi-embedded-helpers/provider-error-patterns.test.ts"
INSPECT = "UKGovernmentBEIS/inspect_ai src/inspect_ai/model/_providers"
LITELLM = "BerriAI/litellm litellm/litellm_core_utils/exception_mapping_utils.py"
LITELLM_AUTH = "BerriAI/litellm litellm/proxy/auth/auth_checks.py"
GUARDRAILS = "BerriAI/litellm litellm/proxy/guardrails/guardrail_hooks"
OLLAMA = "ollama/ollama server/routes.go, server/images.go, server/prompt.go, server/sched.go"
OLLAMA_LLM = "ollama/ollama llm/llama_server.go"
VLLM = "vllm-project/vllm vllm/entrypoints"
OPENAI_DOCS = "https://platform.openai.com/docs/guides/error-codes"
ANTHROPIC_DOCS = "https://docs.anthropic.com/en/api/errors"
GEMINI_DOCS = "https://ai.google.dev/gemini-api/docs/troubleshooting"
DEEPSEEK_DOCS = "https://api-docs.deepseek.com/quick_start/error_codes"
OPENROUTER_DOCS = "https://openrouter.ai/docs/api-reference/errors"
AZURE_DOCS = "https://learn.microsoft.com/azure/ai-services/openai/concepts/content-filter"
BEDROCK_DOCS = "https://docs.aws.amazon.com/bedrock/latest/userguide/troubleshooting-api-error-codes.html"
GITHUB = "https://github.com/"


class Row(NamedTuple):
    """One answer of a provider."""

    wire: str
    status: int
    said: str | dict[str, Any]
    means: str
    source: str


def _proxied(text: str) -> dict[str, Any]:
    inner = f'{{"type":"error","error":{{"type":"invalid_request_error","message":{_quoted(text)}}}}}'
    message = (
        f"litellm.BadRequestError: AnthropicException - {inner}. Received Model Group=vision\nAvailable Model Group "
        "Fallbacks=None"
    )
    return {"error": {"message": message, "type": None, "param": None, "code": "400"}}


def _routed(text: str) -> dict[str, Any]:
    raw = f'{{"error":{{"message":{_quoted(text)},"type":"invalid_request_error"}}}}'
    metadata = {"raw": raw, "provider_name": "Some", "is_byok": False}
    return {"error": {"message": "Provider returned error", "code": 400, "metadata": metadata}, "user_id": "u"}


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


WIRES: dict[str, Callable[[str], Any]] = {
    "openai": lambda text: {"error": {"message": text, "type": "invalid_request_error", "param": None, "code": None}},
    "anthropic": lambda text: {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": text},
        "request_id": "r",
    },
    "gemini": lambda text: {"error": {"code": 400, "message": text, "status": "INVALID_ARGUMENT"}},
    "bedrock": lambda text: {"message": text},
    "mistral": lambda text: {
        "object": "error",
        "message": text,
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    },
    "ollama": lambda text: {"error": text},
    "xai": lambda text: {"code": "Client specified an invalid argument", "error": text},
    "fastapi": lambda text: {"detail": text},
    "vllm": lambda text: {"error": {"message": text, "type": "BadRequestError", "param": None, "code": 400}},
    "openrouter": _routed,
    "proxy": _proxied,
    "plain": lambda text: text,
}

# fmt: off
ROWS = (
    # One client's content.
    Row("xai", 403, "Content violates usage guidelines. Team: t, API key ID: k, Model: grok-4-0709, Failed check: SAFETY_CHECK_TYPE_BIO", "model_refused", GITHUB + "UKGovernmentBEIS/inspect_ai/pull/2267"),
    Row("xai", 403, {"code": "The caller does not have permission to execute the specified operation", "error": "Content violates usage guidelines."}, "model_refused", GITHUB + "UKGovernmentBEIS/inspect_ai/pull/2267"),
    Row("xai", 403, "Content violates safety guidelines.", "model_refused", HELM),
    Row("openai", 400, "Your input image may contain content that is not allowed by our safety system", "model_refused", HELM),
    Row("openai", 400, "Invalid prompt: your prompt was flagged as potentially violating our usage policy. Please try again with a different prompt.", "model_refused", HELM),
    Row("openai", 400, "Invalid prompt: we've limited access to this content for safety reasons. This type of information may be used to benefit or to harm people.", "model_refused", HELM),
    Row("openai", 400, "Your request was rejected as a result of our safety system. Your prompt may contain text that is not allowed by our safety system.", "model_refused", "stanford-crfm/helm src/helm/clients/image_generation/dalle2_client.py"),
    Row("openai", 400, "Your task failed as a result of our safety system.", "model_refused", LITELLM),
    Row("openai", 400, {"error": {"message": "rejected", "type": "invalid_request_error", "code": "content_policy_violation"}}, "model_refused", LITELLM),
    Row("openai", 400, "This request was flagged for possible cybersecurity risk.", "model_refused", HERMES),
    Row("openai", 403, "This request violates our usage policies.", "model_refused", HERMES),
    Row("anthropic", 400, "The prompt was flagged by our safety system.", "model_refused", HERMES),
    Row("openai", 400, "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. Please modify your prompt and retry.", "model_refused", AZURE_DOCS),
    Row("openai", 400, "The response was filtered due to the prompt triggering Microsoft's content management policy.", "model_refused", HELM),
    Row("openai", 400, {"error": {"message": "blocked", "type": None, "param": "prompt", "code": "content_filter", "status": 400, "innererror": {"code": "ResponsibleAIPolicyViolation"}}}, "model_refused", AZURE_DOCS),
    Row("anthropic", 400, "Output blocked by content filtering policy", "model_refused", LITELLM),
    Row("openai", 400, "Content Exists Risk", "model_refused", GITHUB + "666ghj/BettaFish/issues/108"),
    Row("fastapi", 400, "Content Exists Risk", "model_refused", GITHUB + "deepseek-ai/DeepSeek-V2/issues/30"),
    Row("openai", 400, "<400> InternalError.Algo.DataInspectionFailed: Input text data may contain inappropriate content.", "model_refused", GITHUB + "QwenLM/qwen-code/issues/2905"),
    Row("openai", 400, {"error": {"message": "blocked", "type": "data_inspection_failed", "code": "data_inspection_failed"}}, "model_refused", GITHUB + "CommandCodeAI/command-code/issues/813"),
    Row("openai", 403, {"error": {"code": 403, "message": 'openai/o3 requires moderation on OpenAI. Your input was flagged for "violence".', "metadata": {"reasons": ["violence"], "flagged_input": "my account was suspended", "provider_name": "OpenAI"}}}, "model_refused", OPENROUTER_DOCS),
    Row("gemini", 400, "The response was blocked.", "model_refused", LITELLM),
    Row("gemini", 400, {"error": {"code": 400, "message": "The prompt was blocked because of PROHIBITED_CONTENT.", "status": "INVALID_ARGUMENT"}}, "model_refused", GEMINI_DOCS),
    Row("proxy", 400, "Violated guardrail policy", "model_refused", GUARDRAILS),
    Row("fastapi", 400, {"error": {"message": {"error": "Violated guardrail policy", "bedrock_guardrail_response": "no"}, "type": "None", "param": "None", "code": "400"}}, "model_refused", GUARDRAILS),
    Row("openai", 400, "{'error': 'Violated content safety policy', 'lakera_ai_response': {}}", "model_refused", GUARDRAILS),
    Row("openai", 400, "Blocked by Pillar Security Guardrail", "model_refused", GUARDRAILS),
    Row("openai", 400, "Request blocked by Noma guardrail", "model_refused", GUARDRAILS),
    Row("openai", 400, "Blocked by Cisco AI Defense Guardrail", "model_refused", GUARDRAILS),
    Row("openai", 400, "Violated jailbreak threshold; guardrail violated", "model_refused", GUARDRAILS),
    Row("openai", 400, "Security scan failed - request blocked for safety", "model_refused", GUARDRAILS),
    Row("openai", 400, "Blocked entity detected: US_SSN by Guardrail: presidio. This entity is not allowed to be used in this request.", "model_refused", "BerriAI/litellm litellm/exceptions.py"),
    Row("openai", 446, "The guardrail checks defined in the config failed. You can find more information in the `hook_results` object.", "model_refused", "Portkey-AI/gateway src/handlers"),
    # A picture that the provider cannot read.
    Row("anthropic", 400, "Could not process image", "image_invalid", GITHUB + "anthropics/claude-code/issues/8647"),
    Row("bedrock", 400, "The model returned the following errors: messages.0.content.1.image.source.base64.data: Could not process image", "image_invalid", LITELLM),
    Row("bedrock", 500, "Could not process image", "image_invalid", LITELLM),
    Row("openrouter", 400, "Could not process image", "image_invalid", OPENROUTER_DOCS),
    Row("proxy", 400, "Could not process image", "image_invalid", LITELLM),
    Row("gemini", 400, "Unable to process input image. Please retry or report in https://developers.generativeai.google/guide/troubleshooting", "image_invalid", GITHUB + "google-gemini/gemini-cli/issues/5064"),
    Row("gemini", 400, "Provided image is not valid.", "image_invalid", GITHUB + "AmberSahdev/Open-Interface/issues/64"),
    Row("openai", 400, "The image data you provided does not represent a valid image. Please check your input and try again with one of the following image formats: ['image/jpeg', 'image/png', 'image/gif', 'image/webp'].", "image_invalid", "openai/codex codex-rs/core/src/api_bridge.rs"),
    Row("openai", 400, "Failed to decode image", "image_invalid", GITHUB + "ggml-org/llama.cpp/issues/14111"),
    Row("ollama", 400, "invalid image input", "image_invalid", "ollama/ollama openai/openai.go"),
    Row("ollama", 500, "decode WebP image: invalid format; failed to decode image", "image_invalid", OLLAMA_LLM),
    Row("vllm", 400, "cannot identify image file <_io.BytesIO object at 0x7f>", "image_invalid", VLLM),
    # Too large, for this request alone.
    Row("anthropic", 400, "prompt is too long: 213462 tokens > 200000 maximum", "context_too_long", PI),
    Row("anthropic", 413, {"type": "error", "error": {"type": "request_too_large", "message": "Request exceeds the maximum allowed number of bytes."}}, "context_too_long", ANTHROPIC_DOCS),
    Row("anthropic", 400, "messages.169.content.1.image.source.base64: image exceeds 5 MB maximum: 6507076 bytes > 5242880 bytes", "context_too_long", GITHUB + "earendil-works/pi/issues/824"),
    Row("anthropic", 400, "messages.3.content.0.image.source.base64.data: At least one of the image dimensions exceed max allowed size: 8000 pixels", "context_too_long", HERMES),
    Row("anthropic", 429, "Extra usage is required for long context requests.", "model_rate_limited", GITHUB + "anthropics/claude-code/issues/39948"),
    Row("openai", 400, "Your input exceeds the context window of this model. Please adjust your input and try again.", "context_too_long", PI),
    Row("openai", 400, {"error": {"message": "too long", "type": "invalid_request_error", "code": "context_length_exceeded"}}, "context_too_long", PI),
    Row("openai", 400, "This model's maximum context length is 128000 tokens. However, your messages resulted in 375014 tokens (374020 in the messages, 994 in the functions). Please reduce the length of the messages or functions.", "context_too_long", GITHUB + "danny-avila/LibreChat/issues/5509"),
    Row("openai", 429, "Request too large for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, Requested 41000. The input or output tokens must be reduced in order to run successfully.", "context_too_long", LITELLM),
    Row("openai", 413, "Request too large for model `llama-4` in organization `org_x` service tier `on_demand` on tokens per minute (TPM): Limit 6000, Requested 7012, please reduce your message size and try again.", "context_too_long", "https://console.groq.com/docs/errors"),
    Row("openai", 400, "Please reduce the length of the messages or completion.", "context_too_long", PI),
    Row("gemini", 400, "The input token count (1196265) exceeds the maximum number of tokens allowed (1048575)", "context_too_long", PI),
    Row("gemini", 400, "Request payload size exceeds the limit: 20971520 bytes.", "context_too_long", GITHUB + "google-gemini/deprecated-generative-ai-android/issues/26"),
    Row("gemini", 400, "input exceeds the maximum number of tokens", "context_too_long", OPENCLAW),
    Row("xai", 400, "This model's maximum prompt length is 131072 but the request contains 537812 tokens.", "context_too_long", PI),
    Row("openai", 400, "This endpoint's maximum context length is 131072 tokens. However, you requested about 207000 tokens (200000 of text input, 7000 in the output). Please reduce the length of either one.", "context_too_long", PI),
    Row("vllm", 400, "The decoder prompt (length 17772) is longer than the maximum model length of 16384. Make sure that `max_model_len` is no smaller than the number of text tokens plus multimodal tokens.", "context_too_long", GITHUB + "linagora/openrag/issues/128"),
    Row("vllm", 400, "The prompt (total length 25938) is too long to fit into the model (context length 14096). Make sure that `max_model_len` is no smaller than the number of text tokens plus multimodal tokens.", "context_too_long", GITHUB + "vllm-project/vllm/issues/12165"),
    Row("vllm", 400, "This model's maximum context length is 32768 tokens. However, you requested 40000 tokens (38000 in the messages, 2000 in the completion). Please reduce the length of the messages or completion.", "context_too_long", VLLM),
    Row("openai", 400, {"error": {"code": 400, "message": "request (66202 tokens) exceeds the available context size (65536 tokens), try increasing it", "type": "exceed_context_size_error", "n_prompt_tokens": 66202, "n_ctx": 65536}}, "context_too_long", OPENCLAW),
    Row("openai", 500, {"error": {"code": 500, "message": "Context size has been exceeded.", "type": "server_error"}}, "context_too_long", GITHUB + "ggml-org/llama.cpp/issues/19774"),
    Row("openai", 400, "Trying to keep the first 9000 tokens: tokens to keep from the initial prompt is greater than the context length", "context_too_long", PI),
    Row("mistral", 400, "Prompt contains 140000 tokens and 0 draft tokens, too large for model with 131072 maximum context length", "context_too_long", PI),
    Row("bedrock", 400, "Input is too long for requested model.", "context_too_long", PI),
    Row("bedrock", 400, "The input is too long for the model", "context_too_long", OPENCLAW),
    Row("bedrock", 400, "Input token count exceeds the maximum number of input tokens", "context_too_long", OPENCLAW),
    Row("bedrock", 400, "Too many input tokens. Max input tokens: 300000, request input token count: 310020", "context_too_long", LITELLM),
    Row("bedrock", 400, "total tokens exceeds the model's maximum limit of 4096", "context_too_long", OPENCLAW),
    Row("ollama", 400, "input after truncation exceeds maximum context length", "context_too_long", OLLAMA),
    Row("ollama", 400, "this model only supports one image while more than one image requested", "context_too_long", OLLAMA),
    Row("vllm", 400, "At most 1 image(s) may be provided in one prompt.", "context_too_long", VLLM),
    Row("openai", 400, "prompt token count of 140000 exceeds the limit of 128000", "context_too_long", PI),
    Row("openai", 400, "Your request exceeded model token limit: 131072 (requested: 140000)", "context_too_long", PI),
    Row("openai", 400, "invalid params, context window exceeds limit", "context_too_long", PI),
    Row("openai", 400, "Current length is 9000 while limit is 8192", "context_too_long", LITELLM),
    Row("fastapi", 422, "`inputs` tokens + `max_new_tokens` must be <= 8192. Given: 9000 `inputs` tokens and 512 `max_new_tokens`", "context_too_long", LITELLM),
    Row("plain", 413, "<html>\r\n<head><title>413 Request Entity Too Large</title></head>\r\n<body>nginx</body></html>", "context_too_long", HERMES),
    Row("bedrock", 413, "Request Too Long", "context_too_long", GITHUB + "koki-develop/lgtm-generator/issues/10"),
    # Keys.
    Row("openai", 401, "Incorrect API key provided: sk-abc. You can find your API key at https://platform.openai.com/account/api-keys.", "model_misconfigured", OPENAI_DOCS),
    Row("anthropic", 401, {"type": "error", "error": {"type": "authentication_error", "message": "invalid x-api-key"}}, "model_misconfigured", ANTHROPIC_DOCS),
    Row("gemini", 400, {"error": {"code": 400, "message": "API key not valid. Please pass a valid API key.", "status": "INVALID_ARGUMENT", "details": [{"reason": "API_KEY_INVALID"}]}}, "model_misconfigured", LITELLM),
    Row("xai", 400, "Incorrect API key provided: xa***00. You can obtain an API key from https://console.x.ai.", "model_misconfigured", LITELLM),
    Row("openai", 400, "Authentication Fails, Your api key is invalid", "model_misconfigured", DEEPSEEK_DOCS),
    Row("bedrock", 403, "The security token included in the request is invalid.", "model_misconfigured", LITELLM),
    Row("bedrock", 403, "The security token included in the request is expired", "model_misconfigured", BEDROCK_DOCS),
    Row("plain", 500, "Unable to locate credentials", "model_misconfigured", LITELLM),
    Row("openai", 400, "No API key provided.", "model_misconfigured", LITELLM),
    # Money and quota.
    Row("anthropic", 400, "You have reached your specified API usage limits. You will regain access on 2026-04-01 at 00:00 UTC.", "quota", GITHUB + "anthropics/claude-code/issues/2127"),
    Row("anthropic", 400, "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits.", "quota", HERMES),
    Row("openai", 429, {"error": {"message": "You exceeded your current quota, please check your plan and billing details.", "type": "insufficient_quota", "param": None, "code": "insufficient_quota"}}, "quota", OPENAI_DOCS),
    Row("openai", 400, {"error": {"message": "Budget has been exceeded! Current cost: 26.075, Max budget: 0.25", "type": "budget_exceeded", "param": None, "code": "400"}}, "quota", GITHUB + "BerriAI/litellm/issues/22726"),
    Row("openai", 429, {"error": {"message": "LiteLLM User: engineer-1, exceeded budget for model=claude", "type": "budget_exceeded", "param": None, "code": "429"}}, "quota", GITHUB + "OWASP/OpenCRE/pull/1102"),
    Row("openai", 400, "ExceededBudget: End User=ishaan3 over budget. Spend=0.0008, Budget=0.0001", "quota", LITELLM_AUTH),
    Row("proxy", 400, "Budget has been exceeded! Team=99c74652-6e33 Current cost: 14.0, Max budget: 10.0", "quota", GITHUB + "BerriAI/litellm/issues/14144"),
    Row("openai", 429, "No deployments available - crossed budget: Exceeded budget for deployment model_name: x", "quota", GITHUB + "BerriAI/litellm/issues/14144"),
    Row("openai", 402, "Insufficient Balance", "quota", DEEPSEEK_DOCS),
    Row("openai", 402, "This request requires more credits, or fewer max_tokens. You requested up to 16384 tokens, but can only afford 1056.", "quota", OPENROUTER_DOCS),
    Row("openai", 402, "Insufficient credits. Add more using https://openrouter.ai/credits", "quota", OPENROUTER_DOCS),
    Row("openai", 400, {"error": {"code": "Arrearage", "param": None, "message": "Access denied, please make sure your account is in good standing.", "type": "Arrearage"}}, "quota", GITHUB + "hsliuping/TradingAgents-CN/issues/170"),
    Row("bedrock", 400, {"message": "You have exceeded the service quota for your account.", "__type": "ServiceQuotaExceededException"}, "quota", BEDROCK_DOCS),
    Row("bedrock", 400, "Your account has exceeded a service quota for this model.", "quota", BEDROCK_DOCS),
    Row("openai", 412, {"error": {"message": "Account pollinations is suspended, possibly due to reaching the monthly spending limit or failure to pay past invoices.", "param": None, "code": "PRECONDITION_FAILED", "type": "error"}}, "hold", GITHUB + "pollinations/pollinations/issues/12136"),
    Row("openai", 429, "Your account is out of funds", "quota", HERMES),
    Row("openai", 403, "Key limit exceeded (total limit). Manage it using https://openrouter.ai/settings/keys", "hold", HERMES),
    # Accounts, organizations and regions.
    Row("xai", 403, "Your account has been suspended.", "model_misconfigured", HERMES),
    Row("openai", 403, "Your account was suspended for violating our usage policies.", "model_misconfigured", HERMES),
    Row("openai", 403, "Your account has been suspended because its content violates our usage policies.", "model_misconfigured", HERMES),
    Row("openai", 400, {"error": {"message": "Organization has been restricted. Please reach out to support if you believe this was in error.", "type": "invalid_request_error", "code": "organization_restricted"}}, "model_misconfigured", "https://console.groq.com/docs/errors"),
    Row("anthropic", 400, "This organization has been disabled.", "model_misconfigured", "openclaw/openclaw src/agents/pi-embedded-helpers/failover-matches.ts"),
    Row("openai", 403, "account is deactivated", "model_misconfigured", HERMES),
    Row("gemini", 400, {"error": {"code": 400, "message": "User location is not supported for the API use.", "status": "FAILED_PRECONDITION"}}, "model_misconfigured", GITHUB + "google-gemini/gemini-cli/issues/24641"),
    Row("gemini", 400, "Gemini API free tier is not available in your country. Please enable billing on your project in Google AI Studio.", "hold", GEMINI_DOCS),
    Row("openai", 403, {"error": {"message": "Country, region, or territory not supported", "type": "request_forbidden", "param": None, "code": "unsupported_country_region_territory"}}, "model_misconfigured", OPENAI_DOCS),
    Row("gemini", 403, {"error": {"code": 403, "message": "Vertex AI API has not been used in project 1 before or it is disabled.", "status": "PERMISSION_DENIED"}}, "model_misconfigured", LITELLM),
    Row("openai", 404, "No endpoints available matching your guardrail restrictions and data policy. Configure: https://openrouter.ai/settings/privacy", "model_misconfigured", HERMES),
    Row("openai", 404, "No endpoints found matching your data policy", "model_misconfigured", HERMES),
    Row("bedrock", 403, "You don't have access to the model with the specified model ID.", "model_misconfigured", BEDROCK_DOCS),
    Row("bedrock", 403, "User: arn:aws:iam::1:user/u is not authorized to perform: bedrock:InvokeModel on resource: arn:aws:bedrock", "model_misconfigured", "https://theneuralbase.com/aws-bedrock/learn/beginner/why-accessdeniedexception-is-misleading/"),
    Row("bedrock", 400, "Access to the model is denied; not authorized to invoke this API operation", "model_misconfigured", "https://www.tech-reader.blog/2026/01/aws-bedrock-error-accessdeniedexception_20.html"),
    Row("openai", 401, "key not allowed to access model. This key can only access models=['a']", "model_misconfigured", LITELLM_AUTH),
    Row("openai", 403, "User not allowed to access model. No default model access, only team models allowed.", "model_misconfigured", LITELLM_AUTH),
    Row("anthropic", 403, {"type": "error", "error": {"type": "permission_error", "message": "Your API key does not have permission to use the specified resource."}}, "model_misconfigured", ANTHROPIC_DOCS),
    # Models.
    Row("openai", 404, {"error": {"message": "The model `gpt-9` does not exist or you do not have access to it.", "type": "invalid_request_error", "param": None, "code": "model_not_found"}}, "model_misconfigured", LITELLM),
    Row("openai", 400, "Model Not Exist", "model_misconfigured", DEEPSEEK_DOCS),
    Row("openai", 400, "foo/bar is not a valid model ID", "model_misconfigured", HERMES),
    Row("openai", 404, {"error": {"code": "DeploymentNotFound", "message": "The API deployment for this resource does not exist."}}, "model_misconfigured", LITELLM),
    Row("openai", 400, "together-ai error: Unable to access non-serverless model Qwen/Qwen3.6. Please visit https://api.together.ai/models/Qwen to create and start a new dedicated endpoint for the model.", "model_misconfigured", GITHUB + "truefoundry/models/pull/805"),
    Row("openai", 400, {"error": {"message": "no", "type": "invalid_request_error", "code": "model_not_available"}}, "model_misconfigured", GITHUB + "HeyPuter/puter/issues/3168"),
    Row("bedrock", 400, "Invocation of model ID anthropic.claude-sonnet-4-6 with on-demand throughput isn\N{RIGHT SINGLE QUOTATION MARK}t supported. Retry your request with the ID or ARN of an inference profile that contains this model.", "model_misconfigured", GITHUB + "gethouston/houston/pull/1381"),
    Row("bedrock", 400, "The provided model doesn't support on-demand throughput.", "model_misconfigured", GITHUB + "aws-samples/bedrock-chat/issues/508"),
    Row("bedrock", 400, "The provided model identifier is invalid.", "model_misconfigured", BEDROCK_DOCS),
    Row("openai", 400, {"error": {"message": "The model `m` has been decommissioned and is no longer supported.", "type": "invalid_request_error", "code": "model_decommissioned"}}, "model_misconfigured", "https://console.groq.com/docs/deprecations"),
    Row("openai", 400, "model_is_deactivated: this model has been deactivated; invalid model", "model_misconfigured", OPENCLAW),
    Row("openai", 400, "The model grok-2-image-1212 is an image model and is therefore not available on this endpoint. Please use a compatible endpoint", "model_misconfigured", GITHUB + "n8n-io/n8n/issues/16338"),
    Row("openai", 400, "chat_completion: Invalid model name passed in model=m. Call `/v1/models` to view available models for your key.", "model_misconfigured", LITELLM_AUTH),
    Row("ollama", 404, "model 'llava' not found", "model_misconfigured", OLLAMA),
    Row("ollama", 400, "this server cannot run this remote model", "output_invalid", OLLAMA),
    # Models without eyes.
    Row("openai", 400, "Failed to deserialize the JSON body into the target type: messages[1]: unknown variant `image_url`, expected `text` at line 1 column 746109", "model_misconfigured", DEEPSEEK_DOCS),
    Row("plain", 422, "Failed to deserialize the JSON body into the target type: messages[0]: data did not match any variant of untagged enum ChatCompletionRequestContent at line 1 column 1301180", "model_misconfigured", GITHUB + "Usagi-org/ai-goofish-monitor/issues/57"),
    Row("openai", 400, "'messages.1' : for 'role:user' the following must be satisfied[('messages.1.content' : value must be a string)]", "model_misconfigured", GITHUB + "OpenHands/OpenHands/issues/4643"),
    Row("openai", 400, "messages[1].content must be a string", "model_misconfigured", GITHUB + "microsoft/PyRIT/issues/704"),
    Row("fastapi", 422, {"detail": [{"type": "string_type", "loc": ["body", "messages", 1, "content"], "msg": "Input should be a valid string", "input": [{"type": "text", "text": "content exists risk"}]}]}, "model_misconfigured", LITELLM),
    Row("openai", 404, "No endpoints found that support image input", "model_misconfigured", GITHUB + "NousResearch/hermes-agent/pull/23411"),
    Row("openai", 500, {"error": {"code": 500, "message": "image input is not supported by this server", "type": "server_error"}}, "model_misconfigured", GITHUB + "ggml-org/llama.cpp/issues/13566"),
    Row("openai", 400, "Invalid content type. image_url is only supported by certain models.", "model_misconfigured", LITELLM),
    Row("vllm", 400, "GLM-5.2 is not a multimodal model", "model_misconfigured", VLLM),
    Row("vllm", 400, "At most 0 image(s) may be provided in one prompt. Set `--limit-mm-per-prompt` to increase this limit.", "model_misconfigured", VLLM),
    Row("ollama", 400, '"llama3" does not support vision', "model_misconfigured", OLLAMA),
    Row("openai", 500, "The server was not compiled for multimodal or the model projector can't be loaded.", "model_misconfigured", GITHUB + "mozilla-ai/llamafile/issues/298"),
    # What is missing where the gateway or draftd runs.
    Row("plain", 500, "Missing boto3 to call bedrock. Run 'pip install boto3'.", "model_misconfigured", "BerriAI/litellm litellm/llms/bedrock/base_aws_llm.py"),
    Row("proxy", 500, "No module named 'google'", "model_misconfigured", "BerriAI/litellm litellm/llms/vertex_ai/vertex_llm_base.py"),
    Row("plain", 500, "vertexai import failed please run `pip install google-cloud-aiplatform`. This is required for the 'vertex_ai/' route on LiteLLM", "model_misconfigured", "BerriAI/litellm litellm/llms/vertex_ai"),
    # Ask again more humbly.
    Row("openai", 400, {"error": {"message": "Your organization must be verified to stream this model. Please go to: https://platform.openai.com/settings/organization/general and click on Verify Organization.", "type": "invalid_request_error", "param": "stream", "code": "unsupported_value"}}, "stream", GITHUB + "continuedev/continue/issues/8209"),
    Row("openrouter", 400, "Your organization must be verified to stream this model.", "stream", GITHUB + "BeehiveInnovations/pal-mcp-server/issues/134"),
    Row("openai", 400, {"error": {"message": "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is supported.", "type": "invalid_request_error", "param": "temperature", "code": "unsupported_value"}}, "without temperature", GITHUB + "johny-b/llmcomp/issues/69"),
    Row("openai", 400, {"error": {"message": "Unsupported parameter: 'temperature' is not supported with this model.", "type": "invalid_request_error", "param": "temperature", "code": None}}, "without temperature", GITHUB + "OpenHands/software-agent-sdk/issues/1837"),
    Row("openai", 400, {"error": {"message": "litellm.UnsupportedParamsError: gpt-5 models (including gpt-5-codex) don't support temperature=0.7. Only temperature=1 is supported. For gpt-5.1, temperature is supported when reasoning_effort='none' (or not specified, as it defaults to 'none'). To drop unsupported params set litellm.drop_params = True. Received Model Group=gpt-5-mini\nAvailable Model Group Fallbacks=None", "type": "None", "param": None, "code": "400"}}, "without temperature", GITHUB + "Vivswan/litellm-vscode-chat/issues/18"),
    Row("openai", 400, "litellm.UnsupportedParamsError: openai does not support parameters: ['top_p'], for model=o1. To drop these, set `litellm.drop_params=True` or for proxy: drop_params: true", "without top_p", "BerriAI/litellm litellm/utils.py"),
    Row("bedrock", 400, "The model returned the following errors: `temperature` and `top_p` cannot both be specified for this model. Please use only one.", "without top_p", GITHUB + "aws-samples/bedrock-access-gateway/issues/191"),
    Row("anthropic", 400, "temperature and top_p cannot both be specified for this model. Please use only one.", "without top_p", GITHUB + "router-for-me/CLIProxyAPI/issues/193"),
    Row("anthropic", 400, "`temperature` is deprecated for this model.", "without temperature", GITHUB + "aws-samples/bedrock-chat/pull/1102"),
    Row("openai", 400, {"error": {"message": "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.", "type": "invalid_request_error", "param": "max_tokens", "code": "unsupported_parameter"}}, "without max_tokens", LITELLM),
    Row("gemini", 400, 'Invalid JSON payload received. Unknown name "top_p": Cannot find field.', "without top_p", GITHUB + "yym68686/uni-api/issues/129"),
    Row("bedrock", 400, "The maximum tokens you requested exceeds the model limit of 4096. Try again with a maximum tokens value lower than 4096.", "at most 4096", GITHUB + "RooCodeInc/Roo-Code/issues/248"),
    Row("openai", 400, "max_tokens is too large: 8192. This model supports at most 4096 completion tokens, whereas you provided 8192.", "at most 4096", LITELLM),
    Row("anthropic", 400, "max_tokens: 8192 > 4096, which is the maximum allowed number of output tokens for claude-3-haiku-20240307", "at most 4096", ANTHROPIC_DOCS),
    Row("openai", 400, "`max_tokens` must be less than or equal to `4096`, the maximum value for `max_tokens` is less than the `context_window` for this model", "at most 4096", "https://console.groq.com/docs/errors"),
    Row("anthropic", 400, "output_config: Extra inputs are not permitted", "format", GITHUB + "anthropics/anthropic-sdk-csharp/issues/132"),
    Row("anthropic", 400, "output_format: Extra inputs are not permitted", "format", GITHUB + "anthropics/anthropic-sdk-python/issues/1094"),
    Row("anthropic", 400, "The compiled grammar is too large, which would cause performance issues. Simplify your tool schemas or reduce the number of strict tools.", "format", GITHUB + "anthropics/anthropic-sdk-python/issues/1185"),
    Row("bedrock", 400, "This model doesn't support tool use in streaming mode.", "format", BEDROCK_DOCS),
    Row("bedrock", 400, "This model doesn't support tool use.", "format", BEDROCK_DOCS),
    Row("openai", 404, "No endpoints found that support tool use. To learn more about provider routing, visit: https://openrouter.ai/docs/guides/routing/provider-selection", "format", GITHUB + "rbb-dev/Open-WebUI-OpenRouter-pipe/issues/58"),
    Row("ollama", 400, '"llava" does not support tools', "format", OLLAMA),
    Row("ollama", 500, 'invalid format: "x"; expected "json" or a valid JSON Schema object', "format", OLLAMA_LLM),
    Row("openai", 400, "'response_format' : one of the following must be satisfied[('response_format.type' : value is not one of the allowed values ['text'])]", "format", GITHUB + "vercel/ai/issues/7808"),
    Row("openai", 400, {"error": {"code": 400, "message": "failed to parse grammar", "type": "invalid_request_error"}}, "format", "ggml-org/llama.cpp tools/server"),
    Row("openai", 400, "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.", "format", OPENAI_DOCS),
    # One bad generation: no fault of the way it was asked for.
    Row("openai", 400, {"error": {"message": "Failed to generate JSON. Please adjust your prompt. See 'failed_generation' for more details.", "type": "invalid_request_error", "code": "json_validate_failed", "failed_generation": "your account is suspended"}}, "output_invalid", GITHUB + "thepersonalaicompany/amurex-backend/issues/38"),
    Row("openai", 400, {"error": {"message": "Failed to call a function. Please adjust your prompt. See 'failed_generation' for more details.", "type": "invalid_request_error", "code": "tool_use_failed", "failed_generation": ""}}, "output_invalid", GITHUB + "lucagrippa/obsidian-ai-tagger/issues/34"),
    # Wordings that providers share.
    Row("openai", 400, {"error": {"message": "user sensitive words detected", "type": "new_api_error", "code": "sensitive_words_detected"}}, "model_refused", "QuantumNous/new-api types/error.go"),
    Row("ollama", 500, "failed to process inputs: image: unknown format", "image_invalid", "golang/go src/image/format.go"),
    Row("vllm", 400, "image file is truncated (12 bytes not processed)", "image_invalid", "python-pillow/Pillow src/PIL/ImageFile.py"),
    Row("openai", 400, "You uploaded an unsupported image. Please make sure your image has of one the following formats: ['png', 'jpeg', 'gif', 'webp'].", "image_invalid", "https://platform.openai.com/docs/guides/images-vision"),
    Row("openai", 400, "image too large", "context_too_long", HERMES),
    Row("openai", 400, "string too long. Expected a string with maximum length 1048576, but got a string with length 1049000 instead.", "context_too_long", LITELLM),
    Row("openai", 400, "prompt exceeds max length", "context_too_long", HERMES),
    Row("plain", 500, "The api_key client option must be set either by passing api_key to the client or by setting the OPENAI_API_KEY environment variable", "model_misconfigured", LITELLM),
    Row("plain", 500, "Missing credentials. Please pass an `api_key`, `workload_identity`, or set the `OPENAI_API_KEY` environment variable.", "model_misconfigured", "openai/openai-python src/openai/_client.py"),
    Row("plain", 500, "Your default credentials were not found. To set up Application Default Credentials, see https://cloud.google.com/docs", "model_misconfigured", "googleapis/google-auth-library-python google/auth/_default.py"),
    Row("openai", 400, "Billing hard limit has been reached", "quota", HERMES),
    Row("openai", 400, "Please top up your credits.", "quota", HERMES),
    Row("openai", 400, "You have run out of funds", "quota", HERMES),
    Row("openai", 400, {"error": {"message": "The model `m` requires terms acceptance. Please have the org admin accept the terms", "type": "invalid_request_error", "code": "model_terms_required"}}, "model_misconfigured", "https://console.groq.com/docs/errors"),
    Row("openai", 400, {"error": {"message": "Unsupported value: 'stream' does not support true with this model. Only the default (false) value is supported.", "type": "invalid_request_error", "param": "stream", "code": "unsupported_value"}}, "stream", GITHUB + "ChatGPTNextWeb/NextChat/issues/5410"),
    Row("openai", 400, "Unsupported value: 'stream' does not support true with this model. Supported values are: false.", "stream", GITHUB + "Aider-AI/aider/issues/2841"),
    Row("ollama", 400, "this model is missing data required for image input", "model_misconfigured", "ollama/ollama llama/runner"),
    Row("plain", 400, "LLM Provider NOT provided. Pass in the LLM provider you are trying to call. You passed model=foo", "model_misconfigured", "BerriAI/litellm litellm/litellm_core_utils/get_llm_provider_logic.py"),
    Row("openai", 400, "There are no healthy deployments for this model. Received Model Group=vision", "model_misconfigured", "BerriAI/litellm litellm/router.py"),
    Row("openai", 400, "No models loaded. Please load a model in the developer page or use the `lms load` command.", "model_misconfigured", "lmstudio-ai/lmstudio-bug-tracker"),
    Row("openai", 400, {"error": {"code": "OperationNotSupported", "message": "The chatCompletion operation does not work with the specified model, gpt-35-turbo-instruct. Please choose different model and try again."}}, "model_misconfigured", "https://learn.microsoft.com/azure/ai-services/openai/reference"),
    Row("openai", 400, {"error": {"code": "BadRequest", "message": "API version not supported"}}, "model_misconfigured", "https://learn.microsoft.com/azure/ai-services/openai/api-version-deprecation"),
    Row("ollama", 500, "model requires more system memory (5.6 GiB) than is available (3.2 GiB)", "model_misconfigured", "ollama/ollama integration/utils_test.go"),
    Row("ollama", 400, '"llama3" does not support thinking', "without temperature, top_p", OLLAMA),
    Row("plain", 500, "The model is repeating the same chunk = no api key.", "output_invalid", "BerriAI/litellm litellm/litellm_core_utils/streaming_handler.py"),
    # Outages and rate limits.
    Row("anthropic", 529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "model_unavailable", ANTHROPIC_DOCS),
    Row("anthropic", 500, {"type": "error", "error": {"type": "api_error", "message": "An unexpected error has occurred internal to Anthropic's systems."}}, "model_unavailable", ANTHROPIC_DOCS),
    Row("openai", 503, "The engine is currently overloaded, please try again later", "model_unavailable", OPENAI_DOCS),
    Row("openai", 500, "The server had an error processing your request.", "model_unavailable", LITELLM),
    Row("gemini", 503, {"error": {"code": 503, "message": "The model is overloaded. Please try again later.", "status": "UNAVAILABLE"}}, "model_unavailable", GEMINI_DOCS),
    Row("openai", 502, "Your chosen model is down or we received an invalid response from it", "model_unavailable", OPENROUTER_DOCS),
    Row("ollama", 503, "server busy, please try again.  maximum pending requests exceeded", "model_unavailable", OLLAMA),
    Row("ollama", 500, "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error, check ollama server logs for details", "model_unavailable", OLLAMA_LLM),
    Row("plain", 502, "<!doctype html><html><head><title>502 Bad Gateway</title></head><body>cloudflare-nginx</body></html>", "model_unavailable", OPENCLAW),
    Row("plain", 503, "upstream connect error or disconnect/reset before headers", "model_unavailable", HERMES),
    Row("bedrock", 503, "Bedrock is unable to process your request.", "model_unavailable", BEDROCK_DOCS),
    Row("bedrock", 400, "ThrottlingException: Too many requests", "model_rate_limited", OPENCLAW),
    Row("openai", 429, "Rate limit reached for requests", "model_rate_limited", OPENAI_DOCS),
    Row("anthropic", 429, {"type": "error", "error": {"type": "rate_limit_error", "message": "This request would exceed your organization's rate limit of 50,000 input tokens per minute."}}, "model_rate_limited", ANTHROPIC_DOCS),
    Row("gemini", 429, "You exceeded your current quota, please check your plan and billing details.\n* Quota exceeded for metric: generativelanguage.googleapis.com/generate_content_free_tier_requests, limit: 0, model: gemini-2.0-flash-lite\nPlease retry in 34.784434065s.", "model_rate_limited", GITHUB + "zebbern/Devonz/issues/76"),
    Row("bedrock", 429, "Too many requests, please wait before trying again.", "model_rate_limited", BEDROCK_DOCS),
    Row("bedrock", 429, "Too many tokens per day, please wait before trying again.", "model_rate_limited", BEDROCK_DOCS),
    Row("plain", 429, "<!doctype html><html><head><title>429 Too Many Requests</title></head></html>", "model_rate_limited", OPENCLAW),
    Row("plain", 403, "<!doctype html><html><head><title>403 Forbidden</title></head><body>Forbidden</body></html>", "model_misconfigured", OPENCLAW),
    Row("plain", 402, "<!doctype html><html><head><title>402 Payment Required</title></head></html>", "quota", OPENCLAW),
)
# fmt: on
