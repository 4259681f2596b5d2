// The OpenAI SDK for Node, responses.

import OpenAI from "openai";
import { zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

const MODEL = "gpt-4.1";
const WEATHER = {
  type: "function",
  name: "weather",
  description: "How warm it is.",
  strict: true,
  parameters: {
    type: "object",
    properties: { city: { type: "string" } },
    required: ["city"],
    additionalProperties: false,
  },
};
const City = z.object({ city: z.string(), degrees: z.number() });

const client = (at, options = {}) =>
  new OpenAI({ baseURL: at.v1, apiKey: at.key, maxRetries: 0, ...options });

const asked = (at, scenario, more = {}) => ({
  model: MODEL,
  instructions: "Be brief.",
  input: at.say(scenario),
  ...more,
});

const calls = (response) => response.output.filter((item) => item.type === "function_call");

const whole = (response) => ({
  text: response.output_text,
  calls: calls(response).map((item) => ({
    name: item.name,
    arguments: JSON.parse(item.arguments),
    identified: Boolean(item.call_id),
  })),
  items: response.output.map((item) => item.type),
  status: response.status,
  incomplete: response.incomplete_details?.reason ?? null,
  usage: {
    in: response.usage.input_tokens,
    out: response.usage.output_tokens,
    cached: response.usage.input_tokens_details.cached_tokens,
  },
  exact: response,
});

const events = (given) => ({
  kinds: given
    .map((event) => event.type)
    .filter((type, index, types) => type !== types[index - 1]),
  deltas: given
    .filter((event) => event.type === "response.output_text.delta")
    .map((event) => event.delta),
});

const failure = (error) => ({
  class: error.constructor.name,
  status: error.status ?? null,
  identified: Boolean(error.requestID),
  retry_after: error.headers?.get("retry-after") ?? null,
  exact: { message: error.message, code: error.code, type: error.type },
});

const refused = (scenario, options) => async (at) => {
  try {
    await client(at, options).responses.create(asked(at, scenario));
  } catch (error) {
    return failure(error);
  }
};

export const case_text = async (at) => {
  const response = await client(at).responses.create(asked(at, "text"));
  return { ...whole(response), identified: Boolean(response._request_id) };
};

export const case_long = async (at) =>
  whole(await client(at).responses.create(asked(at, "long", { max_output_tokens: 17 })));

export const case_stream = async (at) => {
  const stream = await client(at).responses.create(asked(at, "text", { stream: true }));
  const given = await Array.fromAsync(stream);
  return { ...events(given), exact: given };
};

export const case_helper = async (at) => {
  const stream = client(at).responses.stream(asked(at, "text"));
  const given = await Array.fromAsync(stream);
  return { ...events(given), ...whole(await stream.finalResponse()) };
};

export const case_helper_tools = async (at) => {
  const stream = client(at).responses.stream(asked(at, "two-tools", { tools: [WEATHER] }));
  const given = await Array.fromAsync(stream);
  return { ...events(given), ...whole(await stream.finalResponse()) };
};

export const case_parse = async (at) => {
  const more = { text: { format: zodTextFormat(City, "city") } };
  const response = await client(at).responses.parse(asked(at, "json", more));
  return { ...whole(response), parsed: response.output_parsed };
};

const told = (scenario) => async (at) => {
  const input = [{ role: "user", content: at.say(scenario) }];
  const turns = [];
  for (let turn = 0; turn < 3; turn++) {
    const more = { input, tools: [WEATHER] };
    const response = await client(at).responses.create(asked(at, scenario, more));
    turns.push(whole(response));
    const called = calls(response);
    if (called.length === 0) break;
    input.push(
      ...response.output,
      ...called.map(({ call_id }) => ({
        type: "function_call_output",
        call_id,
        output: "3 degrees",
      })),
    );
  }
  return { turns: turns.map(({ exact, ...seen }) => seen), exact: turns };
};

export const case_tool = told("tool");
export const case_two_tools = told("two-tools");

export const case_error_400 = refused("status-400");
export const case_error_403 = refused("status-403");
export const case_error_404 = refused("status-404");
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
  whole(await client(at, { maxRetries: 2 }).responses.create(asked(at, "once-500")));

export const case_abort = async (at) => {
  const stream = await client(at).responses.create(asked(at, "stalls", { stream: true }));
  for await (const event of stream) {
    if (event.type === "response.output_text.delta") {
      stream.controller.abort();
      return { said: event.delta };
    }
  }
};

const broken = (scenario) => async (at) => {
  let said = "";
  try {
    const stream = await client(at).responses.create(asked(at, scenario, { stream: true }));
    for await (const event of stream) {
      if (event.type === "response.output_text.delta") said += event.delta;
    }
  } catch {
    return { said, failed: true };
  }
  return { said, failed: false };
};

export const case_drops = broken("drops");
export const case_ends = broken("ends");
export const case_errs = broken("errs");
