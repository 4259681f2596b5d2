// The OpenAI SDK for Node, chat completions.

import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const MODEL = "gpt-4.1";
const WEATHER = {
  type: "function",
  function: {
    name: "weather",
    description: "How warm it is.",
    parameters: {
      type: "object",
      properties: { city: { type: "string" } },
      required: ["city"],
    },
  },
};
const City = z.object({ city: z.string(), degrees: z.number() });

const client = (at, options = {}) =>
  new OpenAI({ baseURL: at.v1, apiKey: at.key, maxRetries: 0, ...options });

const asked = (at, scenario, more = {}) => ({
  model: MODEL,
  messages: [
    { role: "system", content: "Be brief." },
    { role: "user", content: at.say(scenario) },
  ],
  ...more,
});

const whole = (completion) => {
  const { message, finish_reason } = completion.choices[0];
  return {
    text: message.content,
    calls: (message.tool_calls ?? []).map((call) => ({
      name: call.function.name,
      arguments: JSON.parse(call.function.arguments),
      identified: Boolean(call.id),
    })),
    finish: finish_reason,
    usage: completion.usage && {
      in: completion.usage.prompt_tokens,
      out: completion.usage.completion_tokens,
      cached: completion.usage.prompt_tokens_details?.cached_tokens ?? 0,
    },
    exact: completion,
  };
};

const failure = (error) => ({
  class: error.constructor.name,
  status: error.status ?? null,
  identified: Boolean(error.requestID),
  retry_after: error.headers?.get("retry-after") ?? null,
  exact: { message: error.message, code: error.code, type: error.type },
});

const refused = (scenario, options) => async (at) => {
  try {
    await client(at, options).chat.completions.create(asked(at, scenario));
  } catch (error) {
    return failure(error);
  }
};

export const case_text = async (at) => {
  const completion = await client(at).chat.completions.create(asked(at, "text"));
  return { ...whole(completion), identified: Boolean(completion._request_id) };
};

export const case_stream = async (at) => {
  const more = { stream: true, stream_options: { include_usage: true } };
  const chunks = await Array.fromAsync(
    await client(at).chat.completions.create(asked(at, "text", more)),
  );
  return {
    deltas: chunks.flatMap((chunk) => chunk.choices[0]?.delta.content || []),
    finish: chunks.flatMap((chunk) => chunk.choices[0]?.finish_reason ?? []),
    usage: chunks.flatMap((chunk) => (chunk.usage ? chunk.usage.total_tokens : [])),
    exact: chunks,
  };
};

export const case_helper = async (at) => {
  const stream = client(at).chat.completions.stream(asked(at, "text"));
  const deltas = [];
  stream.on("content", (delta) => deltas.push(delta));
  return { ...whole(await stream.finalChatCompletion()), deltas };
};

export const case_helper_tools = async (at) => {
  const stream = client(at).chat.completions.stream(asked(at, "two-tools", { tools: [WEATHER] }));
  return whole(await stream.finalChatCompletion());
};

export const case_parse = async (at) => {
  const more = { response_format: zodResponseFormat(City, "city") };
  const completion = await client(at).chat.completions.parse(asked(at, "json", more));
  return { ...whole(completion), parsed: completion.choices[0].message.parsed };
};

export const case_run_tools = async (at) => {
  const called = [];
  const weather = {
    ...WEATHER.function,
    parse: JSON.parse,
    function: ({ city }) => {
      called.push(city);
      return "3 degrees";
    },
  };
  const tools = [{ type: "function", function: weather }];
  const runner = client(at).chat.completions.runTools(asked(at, "two-tools", { tools }));
  return { text: await runner.finalContent(), called };
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
  return { ...seen, code: exact.code };
};

export const case_retried = async (at) =>
  whole(await client(at, { maxRetries: 2 }).chat.completions.create(asked(at, "once-500")));

export const case_abort = async (at) => {
  const stream = await client(at).chat.completions.create(asked(at, "stalls", { stream: true }));
  for await (const chunk of stream) {
    if (chunk.choices[0].delta.content) {
      stream.controller.abort();
      return { said: chunk.choices[0].delta.content };
    }
  }
};

export const case_abort_by_signal = async (at) => {
  const { signal } = AbortSignal.timeout ? { signal: AbortSignal.timeout(400) } : {};
  try {
    await client(at).chat.completions.create(asked(at, "hangs"), { signal });
  } catch (error) {
    return { class: error.constructor.name };
  }
};

const broken = (scenario) => async (at) => {
  let said = "";
  try {
    const stream = await client(at).chat.completions.create(asked(at, scenario, { stream: true }));
    for await (const chunk of stream) said += chunk.choices[0]?.delta.content ?? "";
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
