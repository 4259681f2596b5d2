// The Anthropic SDK for Node.

import Anthropic from "@anthropic-ai/sdk";
import { betaZodTool } from "@anthropic-ai/sdk/helpers/beta/zod";
import { zodOutputFormat } from "@anthropic-ai/sdk/helpers/zod";
import { z } from "zod";

const MODEL = "claude-sonnet-4-5";
const WEATHER = {
  name: "weather",
  description: "How warm it is.",
  input_schema: {
    type: "object",
    properties: { city: { type: "string" } },
    required: ["city"],
  },
};
const City = z.object({ city: z.string(), degrees: z.number() });

const client = (at, options = {}) =>
  new Anthropic({ baseURL: at.url, apiKey: at.key, maxRetries: 0, ...options });

const asked = (at, scenario, more = {}) => ({
  model: MODEL,
  max_tokens: 1024,
  system: "Be brief.",
  messages: [{ role: "user", content: at.say(scenario) }],
  ...more,
});

const whole = (message) => ({
  content: message.content.map((block) => ({
    type: block.type,
    text: block.text,
    name: block.name,
    input: block.input,
    identified: block.type !== "tool_use" || Boolean(block.id),
  })),
  stop: message.stop_reason,
  usage: {
    in: message.usage.input_tokens,
    out: message.usage.output_tokens,
    cached: message.usage.cache_read_input_tokens ?? 0,
  },
  exact: message,
});

const failure = (error) => ({
  class: error.constructor.name,
  status: error.status ?? null,
  type: error.error?.error?.type ?? null,
  identified: Boolean(error.requestID),
  retry_after: error.headers?.get("retry-after") ?? null,
  exact: { message: error.message },
});

const refused = (scenario, options) => async (at) => {
  try {
    await client(at, options).messages.create(asked(at, scenario));
  } catch (error) {
    return failure(error);
  }
};

export const case_text = async (at) => {
  const message = await client(at).messages.create(asked(at, "text"));
  return { ...whole(message), identified: Boolean(message._request_id) };
};

export const case_cached = async (at) => {
  const system = [{ type: "text", text: "Be brief.", cache_control: { type: "ephemeral" } }];
  return whole(await client(at).messages.create(asked(at, "cached", { system })));
};

export const case_stream = async (at) => {
  const events = await Array.fromAsync(
    await client(at).messages.create(asked(at, "text", { stream: true })),
  );
  return {
    deltas: events.flatMap((event) => event.delta?.text ?? []),
    kinds: events.map((event) => event.type).filter((type) => type !== "ping"),
    exact: events,
  };
};

export const case_helper = async (at) => {
  const stream = client(at).messages.stream(asked(at, "text"));
  const deltas = [];
  stream.on("text", (delta) => deltas.push(delta));
  return { ...whole(await stream.finalMessage()), deltas, text: await stream.finalText() };
};

export const case_helper_tools = async (at) => {
  const more = { tools: [WEATHER] };
  const stream = client(at).messages.stream(asked(at, "two-tools", more));
  return whole(await stream.finalMessage());
};

export const case_helper_thinking = async (at) => {
  const more = { thinking: { type: "enabled", budget_tokens: 2048 }, max_tokens: 4096 };
  const stream = client(at).messages.stream(asked(at, "thinking", more));
  return { exact: await stream.finalMessage() };
};

export const case_parse = async (at) => {
  const more = { output_config: { format: zodOutputFormat(City) } };
  const message = await client(at).messages.parse(asked(at, "json", more));
  return { ...whole(message), parsed: message.parsed_output };
};

export const case_tool_runner = async (at) => {
  const called = [];
  const weather = betaZodTool({
    name: "weather",
    description: "How warm it is.",
    inputSchema: z.object({ city: z.string() }),
    run: ({ city }) => {
      called.push(city);
      return "3 degrees";
    },
  });
  const runner = client(at).beta.messages.toolRunner(asked(at, "two-tools", { tools: [weather] }));
  return { ...whole(await runner.runUntilDone()), called };
};

export const case_error_400 = refused("status-400");
export const case_error_403 = refused("status-403");
export const case_error_404 = refused("status-404");
export const case_error_409 = refused("status-409");
export const case_error_422 = refused("status-422");
export const case_error_429 = refused("status-429");
export const case_error_500 = refused("status-500");
export const case_error_overloaded = refused("overloaded");
export const case_timeout = refused("hangs", { timeout: 400 });

export const case_wrong_key = async (at) => {
  const { exact, ...seen } = await refused("text", { apiKey: "sk-wrong" })(at);
  return seen;
};

export const case_retried = async (at) =>
  whole(await client(at, { maxRetries: 2 }).messages.create(asked(at, "once-500")));

export const case_abort = async (at) => {
  const stream = client(at).messages.stream(asked(at, "stalls"));
  for await (const event of stream) {
    if (event.type === "content_block_delta") {
      stream.abort();
      return { said: event.delta.text };
    }
  }
};

const broken = (scenario) => async (at) => {
  let said = "";
  try {
    const stream = await client(at).messages.create(asked(at, scenario, { stream: true }));
    for await (const event of stream) said += event.delta?.text ?? "";
  } catch {
    return { said, failed: true };
  }
  return { said, failed: false };
};

export const case_drops = broken("drops");
export const case_ends = broken("ends");
export const case_errs = broken("errs");

export const case_models = async (at) => {
  const listed = await Array.fromAsync(client(at).models.list());
  const { id } = await client(at).models.retrieve(MODEL);
  return { models: listed.map((model) => model.id).sort(), one: id };
};
