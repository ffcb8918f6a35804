// The schema where it is used: in the language server of VS Code, Neovim, Helix and Emacs. Red lines stand where `check` points, each
// key and word is offered where it belongs, and hovering shows the doc comment.
// Usage: SCHEMAS=a-folder-with-printed-schemas node proof.mjs
//
// Prints one line per check and `N passed, N failed`; exits 1 if one failed, 2 if it could not run.

import { readFileSync, readdirSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, join, relative } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { isPair, isScalar, LineCounter, parseDocument, visit } from 'yaml';
import { start } from './server.mjs';
import { check, expect, finish } from '../real/proof.mjs';

const schemas = process.env.SCHEMAS;
if (!schemas) {
  console.error('SCHEMAS is not set');
  process.exit(2);
}
const root = fileURLToPath(new URL('../..', import.meta.url));
const schema = JSON.parse(readFileSync(join(schemas, 'portcullis.schema.json'), 'utf8'));
const program = createRequire(import.meta.url).resolve('yaml-language-server/bin/yaml-language-server');
const server = await start(program, pathToFileURL(schemas).href);

let opened = 0;
// Opens a text beside the schemas, which it names in its first line; its name, and what is wrong with it.
const open = async (text, schemaName = 'portcullis') => {
  const uri = pathToFileURL(join(schemas, `${opened++}.yaml`)).href;
  const whole = `# yaml-language-server: $schema=${schemaName}.schema.json\n${text}`;
  return { uri, whole, found: await server.open(uri, whole) };
};
const positionOf = (text, offset) => {
  const lines = text.slice(0, offset).split('\n');
  return { line: lines.length - 1, character: lines.at(-1).length };
};
const yamlFiles = (folder) => readdirSync(folder, { recursive: true }).map((name) => join(folder, name))
  .filter((file) => file.endsWith('.yaml') && statSync(file).isFile()).sort();
const shown = (found, text) => found.map(({ range, message }) => {
  const line = text.split('\n')[range.start.line];
  const end = range.end.line === range.start.line ? range.end.character : line.length;
  return `${range.start.line + 1}:${range.start.character + 1} «${line.slice(range.start.character, end)}» ${message}`;
}).join('\n');

// --- red lines

const frame = (route) => `version: 1
listeners:
  - { name: public, address: "0.0.0.0:8080" }
upstreams:
  vendor: { url: "https://api.vendor.example" }
routes:
${route}`;

// «what is underlined» and what is said of it.
const mistakes = [
  ['an unknown key', '  - { name: a, upstream: vendor, «cach»: {} }\n', 'Property cach is not allowed.'],
  ['an unknown key deep down', '  - { name: a, upstream: vendor, match: { path: { «prefx»: /api } } }\n', 'Property prefx is not allowed.'],
  ['a key that is only planned', '  - { name: a, upstream: vendor, «wasm»: [] }\n', 'Property wasm is not allowed.'],
  ['a missing key', '  - «name»: a\n    upstream: vendor\n    rateLimit:\n      requests: 10\n', 'Missing property "window".', 'rateLimit'],
  ['a bare number for a duration', '  - { name: a, upstream: vendor, cache: { ttl: «60» } }\n', 'a duration has a unit'],
  ['no duration', '  - { name: a, upstream: vendor, cache: { ttl: «forever» } }\n', 'a duration has a unit'],
  ['no size', '  - { name: a, upstream: vendor, request: { body: { max: «1 banana» } } }\n', 'a size has a unit'],
  ['a word that is none', '  - { name: a, upstream: vendor, cache: { mode: «overide» } }\n', 'Value is not accepted. Valid values: "respect", "override".'],
  ['an upper-case name', '  - { name: «Weather», upstream: vendor }\n', 'a name is made of'],
  ['a number for a name', '  - { name: «7», upstream: vendor }\n', 'a name is made of'],
  ['an empty key', '  - name: a\n    upstream: vendor\n    cache:«»\n', 'Incorrect type. Expected "object".'],
  ['text where a list belongs', '  - { name: a, upstream: vendor, match: { methods: «GET» } }\n', 'Incorrect type. Expected "array".'],
  ['a method in lower case', '  - { name: a, upstream: vendor, match: { methods: [«get»] } }\n', 'Value is not accepted.'],
  ['a wrong item of a list of limits', '  - { name: a, upstream: vendor, rateLimit: [{ requests: 1, window: 1s, «burts»: 2 }] }\n', 'Property burts is not allowed.'],
  ['a wrong choice in a credential', null, 'Property token is not allowed.'],
];
for (const [what, route, message, atKey] of mistakes) {
  await check(`underlined: ${what}`, async () => {
    const marked = route === null
      ? frame('  - { name: a, upstream: vendor }\n').replace('"https://api.vendor.example"', '"https://a.example", credential: { «token»: x }')
      : frame(route);
    const { whole, found } = await open(marked.replace(/[«»]/g, ''));
    expect(found.some((one) => one.message.includes(message)), `nothing says "${message}":\n${shown(found, whole)}`);
    const one = found.find((each) => each.message.includes(message));
    const first = whole.length - marked.replace(/[«»]/g, '').length;
    let start = first + marked.indexOf('«');
    let end = first + marked.indexOf('»') - 1;
    if (atKey) {
      start = whole.indexOf(atKey);
      end = start + atKey.length;
    }
    const expected = { start: positionOf(whole, start), end: positionOf(whole, end) };
    expect(JSON.stringify(one.range) === JSON.stringify(expected),
      `expected ${JSON.stringify(expected)}, underlined is\n${shown([one], whole)}\n${JSON.stringify(one.range)}`);
    expect(found.length === 1, `one mistake is one red line:\n${shown(found, whole)}`);
  });
}

await check('a correct file has no red line', async () => {
  const { whole, found } = await open(frame('  - { name: a, upstream: vendor, cache: { ttl: 60s } }\n'));
  expect(found.length === 0, shown(found, whole));
});

// --- every file that we have

await check('no red line in what `init` writes, by the schema that it names', async () => {
  const file = join(schemas, 'init/portcullis.yaml');
  const text = readFileSync(file, 'utf8');
  const found = await server.open(pathToFileURL(file).href, text);
  expect(found.length === 0, shown(found, text));
  const more = `${text}\nnobodyKnowsThis: 1\n`;
  const broken = await server.open(pathToFileURL(join(schemas, 'init/broken.yaml')).href, more);
  expect(broken.length === 1, `its schema is not read:\n${shown(broken, more)}`);
});

for (const file of yamlFiles(join(root, 'conf'))) {
  await check(`no red line in ${relative(root, file)}, by the schema that it names`, async () => {
    const text = readFileSync(file, 'utf8');
    expect(/^# yaml-language-server: \$schema=\S+\n# \$schema: \S+\n/.test(text), 'it names no schema');
    const found = await server.open(pathToFileURL(file).href, text);
    expect(found.length === 0, shown(found, text));
  });
}

await check('every example of check with a mistake of shape has a red line, and the fine ones have none', async () => {
  const wrong = [];
  let flagged = 0;
  // A text without any value is no document to the language server, so nothing in it can be judged.
  const unseen = ['empty.yaml', 'only_a_comment.yaml'];
  const examples = readdirSync(join(root, 'tests/check')).filter((name) => name.endsWith('.yaml') && !unseen.includes(name));
  for (const file of examples.map((name) => join(root, 'tests/check', name))) {
    const said = readFileSync(file.replace(/\.yaml$/, '.expected'), 'utf8');
    const isOfShape = /PC020[1235]/.test(said);
    const isFine = said.startsWith('exit 0');
    if (!isOfShape && !isFine) continue;
    const { whole, found } = await open(readFileSync(file, 'utf8'));
    if (isOfShape) flagged++;
    if (isOfShape === (found.length === 0)) wrong.push(`${basename(file)}:\n${shown(found, whole)}`);
  }
  expect(wrong.length === 0, wrong.join('\n'));
  expect(flagged > 10, `only ${flagged} examples were seen`);
});

// --- completion

const completed = async (marked) => {
  const { uri, whole } = await open(marked.replace('‸', ''));
  const first = whole.length - marked.replace('‸', '').length;
  const items = await server.complete(uri, positionOf(whole, first + marked.indexOf('‸')));
  return items.map(({ label }) => label).sort();
};
const route = '  - name: a\n    upstream: vendor\n';
const offered = [
  ['keys at the top', `version: 1\n‸\n`, Object.keys(schema.properties).filter((key) => key !== 'version')],
  ['keys of a route', frame(`${route}    ‸\n`),
    Object.keys(schema.properties.routes.items.properties).filter((key) => !['name', 'upstream'].includes(key))],
  ['keys of a cache', frame(`${route}    cache:\n      ‸\n`),
    Object.keys(schema.properties.routes.items.properties.cache.properties)],
  ['keys of a rate limit in a list', frame(`${route}    rateLimit:\n      - requests: 1\n        ‸\n`), ['window', 'burst', 'key', 'name']],
  ['words of a choice', frame(`${route}    cache:\n      mode: ‸\n`), ['respect', 'override']],
  ['methods', frame(`${route}    match:\n      methods:\n        - ‸\n`), ['GET', 'HEAD', 'POST', 'DELETE']],
];
for (const [what, marked, expected] of offered) {
  await check(`offered: ${what}`, async () => {
    const labels = await completed(marked);
    const missing = expected.filter((key) => !labels.includes(key));
    expect(expected.length > 0 && missing.length === 0, `missing are ${missing}; offered are ${labels}`);
    for (const planned of ['wasm', 'when', 'share', 'tags', 'owners', 'shadow']) {
      if (!expected.includes(planned)) expect(!labels.includes(planned), `\`${planned}\` is offered and not supported`);
    }
  });
}

// --- hover

// The schema of what stands at a path.
const schemaAt = (path) => path.reduce((at, step) => {
  if (typeof step === 'number') return at?.items;
  const inner = at?.properties?.[step] ?? at?.anyOf?.find((choice) => choice.properties?.[step])?.properties[step];
  return inner ?? Object.values(at?.patternProperties ?? {})[0];
}, schema);

// What the reference says in each key, as [key's offset, path].
const keysOf = (text) => {
  const lines = new LineCounter();
  const keys = [];
  visit(parseDocument(text, { lineCounter: lines }), {
    Pair(_, pair, parents) {
      const path = [];
      for (const [index, parent] of parents.entries()) {
        const child = parents[index + 1] ?? pair;
        if (isPair(parent) && isScalar(parent.key)) path.push(parent.key.value);
        if (parent.items && !isPair(child)) path.push(parent.items.indexOf(child));
      }
      keys.push([pair.key.range[0], [...path, pair.key.value]]);
    },
  });
  return keys;
};

await check('hovering over any key of the reference shows its doc comment', async () => {
  const file = join(root, 'conf/portcullis.yaml');
  const text = readFileSync(file, 'utf8');
  const uri = pathToFileURL(file).href;
  const wrong = [];
  let seen = 0;
  for (const [offset, path] of keysOf(text)) {
    const known = schemaAt(path);
    // Headers, parameters and the like have names of their own.
    if (!known?.description || known.patternProperties === undefined && schemaAt(path.slice(0, -1))?.properties?.[path.at(-1)] === undefined) continue;
    const hover = await server.hover(uri, positionOf(text, offset + 1));
    seen++;
    if (hover !== known.description && !hover.startsWith(`${known.description}\n`)) wrong.push(`${path.join('.')}:\n${hover}\n--- expected\n${known.description}`);
  }
  expect(wrong.length === 0, `${wrong.length} of ${seen}:\n${wrong.slice(0, 5).join('\n')}`);
  expect(seen > 100, `only ${seen} keys were seen`);
});

await check('the text is the one in the source', async () => {
  const source = readFileSync(join(root, 'src/policy/cache.rs'), 'utf8');
  const [, comment] = /((?: +\/\/\/ .*\n)+)(?: +#.*\n)* +ttl:/.exec(source);
  const says = comment.split('\n').map((line) => line.replace(/^ +\/\/\/ ?/, '')).join(' ').trim();
  const marked = frame(`${route}    cache: { ttl: 60s }\n`);
  const { uri, whole } = await open(marked);
  const hover = await server.hover(uri, positionOf(whole, whole.indexOf('ttl')));
  expect(hover.startsWith(says), `${hover}\n--- expected\n${says}`);
});

await check('hovering over a word tells what each word means', async () => {
  const { uri, whole } = await open(frame(`${route}    cache: { ttl: 60s, mode: respect }\n`));
  const hover = await server.hover(uri, positionOf(whole, whole.indexOf('mode')));
  expect(hover.includes('* `override`: `ttl` wins over what the upstream says.'), hover);
});

await check("a team's file has its own schema", async () => {
  const { whole, found } = await open('team: checkout\nroutes:\n  - { name: pay, upstream: stripe }\n', 'team');
  expect(found.length === 0, shown(found, whole));
  const other = await open('team: checkout\nlisteners: []\nroutes:\n  - { name: pay, upstream: stripe }\n', 'team');
  expect(other.found.length === 1 && other.found[0].message === 'Property listeners is not allowed.', shown(other.found, other.whole));
});

await server.stop();
process.exit(finish('in the editor') ? 0 : 1);
