// What a page evaluates for one unit after another with OpenFeature's web SDK and the OFREP
// web provider: {"url", "headers", "asked": [[kind, key, default, context]]}, where
// neighbours with the same context are of one page.
import { OpenFeature } from '@openfeature/web-sdk';
import { OFREPWebProvider } from '@openfeature/ofrep-web-provider';
import { text } from 'node:stream/consumers';

const { url, headers, asked } = JSON.parse(await text(process.stdin));
const of = { boolean: 'getBooleanDetails', string: 'getStringDetails', number: 'getNumberDetails', object: 'getObjectDetails' };
await OpenFeature.setContext(asked[0][3]);
await OpenFeature.setProviderAndWait(new OFREPWebProvider({ baseUrl: url, headers, pollInterval: 0, cacheMode: 'disabled' }));
const client = OpenFeature.getClient();
const details = [];
let current = JSON.stringify(asked[0][3]);
for (const [kind, key, fallback, context] of asked) {
  if (JSON.stringify(context) !== current) {
    await OpenFeature.setContext(context);
    current = JSON.stringify(context);
  }
  details.push(client[of[kind]](key, fallback));
}
// Larger than a pipe holds, so it has to be written before the process ends.
process.stdout.write(`${JSON.stringify(details)}\n`, () => process.exit(0));
