// The Vercel AI SDK with each of its providers.

import { createAnthropic } from "@ai-sdk/anthropic";
import { createGoogle } from "@ai-sdk/google";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, isStepCount, Output, streamText, tool } from "ai";
import { z } from "zod";

globalThis.AI_SDK_LOG_WARNINGS = false;

const MODELS = {
  "ai-sdk-openai": ({ v1, key }) => createOpenAI({ baseURL: v1, apiKey: key })("gpt-4.1"),
  "ai-sdk-openai-chat": ({ v1, key }) => createOpenAI({ baseURL: v1, apiKey: key }).chat("gpt-4.1"),
  "ai-sdk-compatible": ({ v1, key }) =>
    createOpenAICompatible({
      name: "gateway",
      baseURL: v1,
      apiKey: key,
      includeUsage: true,
      supportsStructuredOutputs: true,
    })("gpt-4.1"),
  "ai-sdk-anthropic": ({ v1, key }) =>
    createAnthropic({ baseURL: v1, apiKey: key })("claude-sonnet-4-5"),
  "ai-sdk-google": ({ url, key }) =>
    createGoogle({ baseURL: `${url}/v1beta`, apiKey: key })("gemini-2.5-flash"),
};

const City = z.object({ city: z.string(), degrees: z.number() });

const asked = (at, scenario, more = {}) => ({
  model: MODELS[at.client](at),
  instructions: "Be brief.",
  prompt: at.say(scenario),
  maxRetries: 0,
  maxOutputTokens: 1024,
  // without it the SDK refers to what OpenAI keeps of earlier steps, and other vendors do not
  ...(at.client === "ai-sdk-openai" && { providerOptions: { openai: { store: false } } }),
  ...more,
});

const tokens = (usage) => ({
  in: usage.inputTokens,
  out: usage.outputTokens,
  cached: usage.inputTokenDetails?.cacheReadTokens ?? 0,
});

const whole = (result) => ({
  text: result.text,
  finish: result.finishReason,
  usage: tokens(result.usage),
  exact: { raw: result.usage.raw, finish: result.rawFinishReason },
});

const weather = (called) =>
  tool({
    description: "How warm it is.",
    inputSchema: z.object({ city: z.string() }),
    execute: ({ city }) => {
      called.push(city);
      return "3 degrees";
    },
  });

export const case_text = async (at) => whole(await generateText(asked(at, "text")));
export const case_long = async (at) => whole(await generateText(asked(at, "long")));
export const case_cached = async (at) => whole(await generateText(asked(at, "cached")));

export const case_stream = async (at) => {
  const result = streamText(asked(at, "text"));
  const kinds = [];
  const deltas = [];
  for await (const part of result.fullStream) {
    if (part.type === "text-delta") deltas.push(part.text);
    if (kinds.at(-1) !== part.type && part.type !== "raw") kinds.push(part.type);
  }
  return {
    deltas,
    kinds,
    finish: await result.finishReason,
    usage: tokens(await result.usage),
  };
};

const told = (scenario) => async (at) => {
  const called = [];
  const more = { tools: { weather: weather(called) }, stopWhen: isStepCount(3) };
  const result = await generateText(asked(at, scenario, more));
  return {
    called,
    text: result.text,
    finish: result.steps.map((step) => step.finishReason),
    said: result.steps.map((step) => step.text),
  };
};

export const case_tool = told("tool");
export const case_talk_and_tool = told("talk-and-tool");
export const case_two_tools = told("two-tools");

export const case_tools_streamed = async (at) => {
  const called = [];
  const more = { tools: { weather: weather(called) }, stopWhen: isStepCount(3) };
  const result = streamText(asked(at, "two-tools", more));
  const kinds = [];
  for await (const part of result.fullStream) {
    if (kinds.at(-1) !== part.type) kinds.push(part.type);
  }
  return { called, text: await result.text, kinds };
};

export const case_object = async (at) => {
  const result = await generateText(asked(at, "json", { output: Output.object({ schema: City }) }));
  return { object: result.output, finish: result.finishReason };
};

export const case_object_streamed = async (at) => {
  const result = streamText(asked(at, "json", { output: Output.object({ schema: City }) }));
  return { parts: await Array.fromAsync(result.partialOutputStream), object: await result.output };
};

const refused = (scenario) => async (at) => {
  try {
    await generateText(asked(at, scenario));
  } catch (error) {
    return {
      class: error.name,
      status: error.statusCode,
      retryable: error.isRetryable,
      retry_after: error.responseHeaders?.["retry-after"] ?? null,
      exact: error.message,
    };
  }
};

export const case_error_400 = refused("status-400");
export const case_error_429 = refused("status-429");
export const case_error_500 = refused("status-500");
export const case_error_overloaded = refused("overloaded");

export const case_abort = async (at) => {
  const controller = new AbortController();
  const result = streamText(
    asked(at, "stalls", { abortSignal: controller.signal, onError: () => {} }),
  );
  for await (const text of result.textStream) {
    controller.abort();
    return { said: text };
  }
};

const broken = (scenario) => async (at) => {
  let said = "";
  let failed = false;
  const result = streamText(asked(at, scenario, { onError: () => {} }));
  try {
    for await (const part of result.fullStream) {
      if (part.type === "text-delta") said += part.text;
      if (part.type === "error") failed = true;
    }
  } catch {
    failed = true;
  }
  return { said, failed };
};

export const case_drops = broken("drops");
export const case_ends = broken("ends");
export const case_errs = broken("errs");
