// Makes KMS calls with the AWS SDK for JavaScript.
//
// The environment variable KMS_CLIENT is the client's configuration, as JSON.
// Each line of standard input is a call:
//
//   {"operation": "Decrypt", "input": {…}, "client": {…}}
//
// where client, if there, overrides the configuration. Each is answered by a
// line, {"output": {…}} or {"error": {…}}. Bytes are {"bytes": "<base64>"}.
import { createInterface } from "node:readline";
import * as sdk from "@aws-sdk/client-kms";

const base = JSON.parse(process.env.KMS_CLIENT);
const shared = new sdk.KMSClient(base);

function fromLine(_, value) {
  const isBytes = typeof value?.bytes === "string";
  return isBytes ? Uint8Array.from(Buffer.from(value.bytes, "base64")) : value;
}

// A Buffer has been through its own toJSON when the replacer gets the value, so
// it looks at the original.
function toLine(key, value) {
  const original = this[key];
  const isBytes = original instanceof Uint8Array;
  return isBytes ? { bytes: Buffer.from(original).toString("base64") } : value;
}

async function call({ operation, input, client }) {
  const kms = client ? new sdk.KMSClient({ ...base, ...client }) : shared;
  try {
    const { $metadata, ...output } = await kms.send(new sdk[`${operation}Command`](input));
    return { output };
  } catch (error) {
    return {
      error: {
        name: error.name,
        message: error.message,
        status: error.$metadata?.httpStatusCode,
        service: error instanceof sdk.KMSServiceException,
        // whether it is an instance of the class that the SDK has for it
        modelled: error.name in sdk && error instanceof sdk[error.name],
      },
    };
  } finally {
    if (client) kms.destroy();
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await call(JSON.parse(line, fromLine)), toLine));
}
shared.destroy();
