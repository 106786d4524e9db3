// A form made of a JSON Schema. What it cannot show as fields is written as JSON. The arguments leave it as text, so that a
// number stays what was typed.

import { h } from "./dom.js";

const DEEPEST = 3;
const MOST_FIELDS = 200;
const NUMBER = /^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/;
let last = 0;

/** What a field holds does not fit. */
export class Unfit extends Error {
  constructor(field, message) {
    super(message);
    this.field = field;
  }
}

/** `{element, value()}`; `value` is JSON as text, or throws `Unfit`. */
export function formOf(schema) {
  const root = objectField(isObject(schema) ? schema : {}, 0);
  return { element: root.element, value: () => root.value() ?? "{}" };
}

function isObject(value) {
  return value !== null && typeof value === "object" && !Array.isArray(value);
}

function typeOf(schema, depth = 0) {
  const of = (one) => (Array.isArray(one?.type) ? one.type.filter((type) => type !== "null") : [one?.type]).filter(Boolean);
  if (of(schema).length === 1) return { ...schema, type: of(schema)[0] };
  // Something or null: leaving it out says the same.
  const all = schema?.anyOf ?? schema?.oneOf;
  const some = Array.isArray(all) ? all.filter((one) => one?.type !== "null") : [];
  return some.length === 1 && depth < DEEPEST ? typeOf({ ...schema, anyOf: undefined, oneOf: undefined, ...some[0] }, depth + 1) : schema;
}

function objectField(schema, depth) {
  const required = new Set(Array.isArray(schema.required) ? schema.required : []);
  const all = Object.entries(isObject(schema.properties) ? schema.properties : {});
  if (all.length > MOST_FIELDS) return wholeField();
  const fields = all.map(([name, one]) => [
    name,
    fieldOf(name, typeOf(isObject(one) ? one : {}), required.has(name), depth + 1),
    required.has(name),
  ]);
  const element = h("div", { class: "fields" }, fields.length ? fields.map(([, field]) => field.element) : h("p", { class: "note" }, "It takes no arguments."));
  return {
    element,
    value: () => {
      const members = fields.map(([name, field]) => [name, field.value()]).filter(([, text]) => text !== undefined);
      return members.length || depth === 0 ? `{${members.map(([name, text]) => `${JSON.stringify(name)}:${text}`).join(",")}}` : undefined;
    },
  };
}

/** More arguments than anybody fills in, as one text. */
function wholeField() {
  const input = h("textarea", { rows: 4, placeholder: "{ }", spellcheck: "false", "aria-label": "Arguments as JSON" });
  return { element: h("div", { class: "fields" }, input), value: () => json(input, { type: "object" }) };
}

function fieldOf(name, schema, required, depth) {
  const title = [h("b", {}, name), required ? "" : " (optional)"];
  const about = typeof schema.description === "string" ? h("span", { class: "hint" }, schema.description) : null;
  if (schema.type === "object" && isObject(schema.properties) && depth < DEEPEST) {
    const inner = objectField(schema, depth);
    const element = h("fieldset", {}, h("legend", {}, title), about, inner.element);
    return { element, value: () => inner.value() ?? (required ? "{}" : undefined) };
  }
  const { input, read } = inputOf(schema, required);
  const id = `field-${++last}`;
  const problem = h("span", { class: "problem", id: `${id}-problem` });
  input.id = id;
  input.setAttribute("aria-describedby", problem.id);
  const element = h("div", {}, h("label", { for: id }, title, about && " ", about, input), problem);
  const value = () => {
    problem.textContent = "";
    input.removeAttribute("aria-invalid");
    try {
      const text = read();
      if (text === undefined && required) throw new Unfit(input, "It is needed.");
      return text;
    } catch (error) {
      if (!(error instanceof Unfit)) throw error;
      problem.textContent = error.message;
      input.setAttribute("aria-invalid", "true");
      throw new Unfit(input, error.message);
    }
  };
  return { element, value };
}

function inputOf(schema, required) {
  const start = schema.default === undefined ? "" : typeof schema.default === "string" ? schema.default : JSON.stringify(schema.default);
  const example = Array.isArray(schema.examples) ? schema.examples[0] : undefined;
  const hint = example === undefined ? "" : typeof example === "string" ? example : JSON.stringify(example);
  if (Array.isArray(schema.enum)) return choice(schema.enum, schema.default, required);
  switch (schema.type) {
    case "boolean":
      return choice([true, false], schema.default, required);
    case "integer":
    case "number": {
      const input = h("input", { inputmode: schema.type === "integer" ? "numeric" : "decimal", value: start, placeholder: hint, autocomplete: "off" });
      return { input, read: () => number(input, schema) };
    }
    case "string": {
      const isLong = (schema.maxLength ?? 0) > 200 || (typeof schema.title === "string" && /text|content|body|markdown|query|sql|code/i.test(schema.title));
      const input = isLong ? h("textarea", { rows: 3, placeholder: hint }, start) : h("input", { value: start, placeholder: hint, autocomplete: "off", spellcheck: "false" });
      return { input, read: () => (input.value === "" && !required ? undefined : JSON.stringify(input.value)) };
    }
    default: {
      const shape = schema.type === "array" ? "[ ]" : schema.type === "object" ? "{ }" : "JSON";
      const input = h("textarea", { rows: 2, placeholder: hint || shape, spellcheck: "false" }, start);
      return { input, read: () => json(input, schema) };
    }
  }
}

function choice(values, start, required) {
  const input = h(
    "select",
    {},
    required ? null : h("option", { value: "" }, "–"),
    values.map((value) => h("option", { value: JSON.stringify(value), selected: value === start }, typeof value === "string" ? value : JSON.stringify(value))),
  );
  return { input, read: () => input.value || undefined };
}

function number(input, schema) {
  const text = input.value.trim();
  if (text === "") return undefined;
  if (!NUMBER.test(text) || (schema.type === "integer" && /[.eE]/.test(text))) {
    throw new Unfit(input, schema.type === "integer" ? "A whole number is expected." : "A number is expected.");
  }
  return text;
}

function json(input, schema) {
  const text = input.value.trim();
  if (text === "") return undefined;
  let value;
  try {
    value = JSON.parse(text);
  } catch {
    // A list of words is what most lists are.
    if (schema.type === "array" && !text.startsWith("[")) return JSON.stringify(text.split(/\s*[,\n]\s*/));
    throw new Unfit(input, "JSON is expected.");
  }
  const is = Array.isArray(value) ? "array" : value === null ? "null" : typeof value;
  if (["array", "object"].includes(schema.type) && is !== schema.type) throw new Unfit(input, `JSON of an ${schema.type} is expected.`);
  return text;
}
