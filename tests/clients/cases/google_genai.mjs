// Google's Gen AI SDK for Node.

import { ApiError, GoogleGenAI } from "@google/genai";

const MODEL = "gemini-2.5-flash";
const WEATHER = {
  functionDeclarations: [
    {
      name: "weather",
      description: "How warm it is.",
      parametersJsonSchema: {
        type: "object",
        properties: { city: { type: "string" } },
        required: ["city"],
      },
    },
  ],
};
const CITY = {
  type: "object",
  properties: { city: { type: "string" }, degrees: { type: "integer" } },
  required: ["city", "degrees"],
};

const models = (at, { key = at.key, ...options } = {}) =>
  new GoogleGenAI({ apiKey: key, httpOptions: { baseUrl: at.url, ...options } }).models;

const asked = (at, scenario, config = {}) => ({
  model: MODEL,
  contents: at.say(scenario),
  config: { systemInstruction: "Be brief.", ...config },
});

const usage = (given) => ({
  in: given.promptTokenCount,
  out: given.candidatesTokenCount,
  total: given.totalTokenCount,
  cached: given.cachedContentTokenCount ?? 0,
});

const called = (response) => (response.functionCalls ?? []).map(({ name, args }) => ({ name, args }));

const body = ({ sdkHttpResponse, ...given }) => given;

const whole = (response) => ({
  text: response.text ?? "",
  calls: called(response),
  finish: response.candidates[0].finishReason,
  usage: usage(response.usageMetadata),
  exact: body(response),
});

export const case_text = async (at) => whole(await models(at).generateContent(asked(at, "text")));
export const case_long = async (at) =>
  whole(await models(at).generateContent(asked(at, "long", { maxOutputTokens: 17 })));

const streamed = (scenario, config) => async (at) => {
  const stream = await models(at).generateContentStream(asked(at, scenario, config));
  const chunks = await Array.fromAsync(stream);
  return {
    deltas: chunks.map((chunk) => chunk.text).filter(Boolean),
    calls: chunks.flatMap(called),
    finish: chunks.flatMap((chunk) => chunk.candidates?.[0]?.finishReason ?? []),
    usage: usage(chunks.at(-1).usageMetadata),
    exact: chunks.map(body),
  };
};

export const case_stream = streamed("text");
export const case_stream_tools = streamed("two-tools", { tools: [WEATHER] });

export const case_object = async (at) => {
  const config = { responseMimeType: "application/json", responseJsonSchema: CITY };
  const response = await models(at).generateContent(asked(at, "json", config));
  return { object: JSON.parse(response.text) };
};

const told = (scenario) => async (at) => {
  const contents = [{ role: "user", parts: [{ text: at.say(scenario) }] }];
  const turns = [];
  for (let turn = 0; turn < 3; turn++) {
    const asking = { ...asked(at, scenario, { tools: [WEATHER] }), contents };
    const response = await models(at).generateContent(asking);
    turns.push(whole(response));
    if (!response.functionCalls) break;
    const parts = response.functionCalls.map(({ id, name }) => ({
      functionResponse: { id, name, response: { result: "3 degrees" } },
    }));
    contents.push(response.candidates[0].content, { role: "user", parts });
  }
  return { turns: turns.map(({ exact, ...seen }) => seen), exact: turns };
};

export const case_tool = told("tool");
export const case_two_tools = told("two-tools");

export const case_count_tokens = async (at) => {
  const counted = await models(at).countTokens({ model: MODEL, contents: at.say("text") });
  return { counted: counted.totalTokens > 0, exact: counted.totalTokens };
};

const refused = (scenario, options) => async (at) => {
  try {
    await models(at, options).generateContent(asked(at, scenario));
  } catch (error) {
    return {
      class: error.constructor.name,
      by_the_sdk: error instanceof ApiError,
      status: error.status ?? null,
      exact: error.message,
    };
  }
};

export const case_error_400 = refused("status-400");
export const case_error_403 = refused("status-403");
export const case_error_404 = refused("status-404");
export const case_error_429 = refused("status-429");
export const case_error_500 = refused("status-500");
export const case_error_overloaded = refused("overloaded");
export const case_timeout = refused("hangs", { timeout: 400 });

export const case_wrong_key = async (at) => {
  const { exact, ...seen } = await refused("text", { key: "sk-wrong" })(at);
  return seen;
};

export const case_abort = async (at) => {
  const controller = new AbortController();
  const config = { abortSignal: controller.signal };
  const stream = await models(at).generateContentStream(asked(at, "stalls", config));
  for await (const chunk of stream) {
    controller.abort();
    return { said: chunk.text };
  }
};

const broken = (scenario) => async (at) => {
  let said = "";
  try {
    const stream = await models(at).generateContentStream(asked(at, scenario));
    for await (const chunk of stream) said += chunk.text ?? "";
  } catch {
    return { said, failed: true };
  }
  return { said, failed: false };
};

export const case_drops = broken("drops");
export const case_ends = broken("ends");
export const case_errs = broken("errs");
