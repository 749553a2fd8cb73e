// Evaluates what the standard input asks for with OpenFeature's server SDK and the OFREP
// provider, and prints the details: {"url", "headers", "asked": [[kind, key, default, context]]}.
import { OpenFeature } from '@openfeature/server-sdk';
import { OFREPProvider } from '@openfeature/ofrep-provider';
import { text } from 'node:stream/consumers';

const { url, headers, asked } = JSON.parse(await text(process.stdin));
await OpenFeature.setProviderAndWait(new OFREPProvider({ baseUrl: url, headers }));
const client = OpenFeature.getClient();
const of = { boolean: 'getBooleanDetails', string: 'getStringDetails', number: 'getNumberDetails', object: 'getObjectDetails' };
const details = [];
for (const [kind, key, fallback, context] of asked) {
  details.push(await client[of[kind]](key, fallback, context));
}
console.log(JSON.stringify(details));
await OpenFeature.close();
