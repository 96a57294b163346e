// A client in JavaScript: calls every kind of method of a server and prints what it saw as one JSON
// object.
//
//     node client.mjs ADDRESS AGEING DESCRIPTORS
//
// AGEING is a server of the same boards whose connections do not last.
// DESCRIPTORS is a file with a google.protobuf.FileDescriptorSet of all services that are called; there
// is no generated code. tests/acceptance/test_foreign_clients.py knows what there is to see.
import { readFileSync } from "node:fs";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const BOARD = "node";
const MESSAGES = 50;
const PER_MESSAGE = 20;
const CALLERS = 100;
const TOO_MUCH = 4 * 1024 * 1024 + 1;
const GZIP = 2;
const PATIENCE_MS = 60_000;

const [address, ageing, descriptors] = process.argv.slice(2);
const known = loader.loadFileDescriptorSetFromBuffer(readFileSync(descriptors), {
  longs: String,
  enums: String,
  oneofs: true,
});
const services = grpc.loadPackageDefinition(known);
const plain = grpc.credentials.createInsecure();
const options = { "grpc.enable_retries": 0 };
const channel = new grpc.Channel(address, plain, options);
const on = (service, more = {}) =>
  new service(address, plain, { channelOverride: channel, ...options, ...more });
const ranking = on(services.standings.v1.RankingService);
const boards = on(services.standings.v1.BoardService);
const health = on(services.grpc.health.v1.Health);
const reflection = on(services.grpc.reflection.v1alpha.ServerReflection);
const zipping = new services.standings.v1.RankingService(address, plain, {
  ...options,
  "grpc.default_compression_algorithm": GZIP,
});

const within = (ms) => ({ deadline: Date.now() + ms });
const name = (code) => grpc.status[code];
const submission = (user, score) => ({ board_id: BOARD, user_id: user, score });
const batchOf = (first, count) => ({
  submissions: Array.from({ length: count }, (_, at) => submission(first + at, first + at)),
});
const applied = (answer) => answer.results.filter((result) => result.response).length;

// The answer of a unary call; rejects with its status.
function ask(client, method, request, metadata = new grpc.Metadata(), ms = PATIENCE_MS) {
  return new Promise((resolve, reject) => {
    client[method](request, metadata, within(ms), (error, answer) =>
      error ? reject(error) : resolve(answer),
    );
  });
}

// The status of a call that fails.
async function refusal(call) {
  try {
    await call;
  } catch (error) {
    return error;
  }
  return { code: grpc.status.OK };
}

// The name of the status that a stream ends with, whatever it still brings.
function ending(stream, take = () => {}) {
  return new Promise((resolve) => {
    stream.on("data", take);
    stream.on("error", () => {}); // The status says it as well.
    stream.on("status", (status) => resolve(name(status.code)));
  });
}

function follow(metadata = new grpc.Metadata(), ms = PATIENCE_MS) {
  const request = { board_id: BOARD, top_count: 3, min_interval: { nanos: 100_000_000 } };
  return ranking.watchEntries(request, metadata, within(ms));
}

function marked(id) {
  const metadata = new grpc.Metadata();
  metadata.set("x-request-id", id);
  metadata.set("trace-bin", Buffer.from([0, 1, 254, 255]));
  return metadata;
}

// A connection of its own: one that comes of age meanwhile would answer something else.
function fresh() {
  const options = { "grpc.use_local_subchannel_pool": 1 };
  return new services.standings.v1.RankingService(address, plain, options);
}

// What a status and its details say.
function told(error) {
  const seen = { code: name(error.code), message: error.details };
  const [details] = error.metadata.get("grpc-status-details-bin");
  for (const detail of decode("google.rpc.Status", details).details) {
    const type = detail.type_url.split("/")[1];
    const one = decode(type, detail.value);
    if (type === "google.rpc.ErrorInfo") Object.assign(seen, { reason: one.reason, domain: one.domain });
    if (type === "google.rpc.BadRequest") seen.field = one.field_violations[0].field;
  }
  return seen;
}

const decode = (type, data) => known[type].deserialize(data);

const looks = {
  health: async () => (await ask(health, "check", {})).status,

  services: () =>
    new Promise((resolve, reject) => {
      const stream = reflection.serverReflectionInfo(new grpc.Metadata(), within(PATIENCE_MS));
      stream.on("error", reject);
      stream.on("data", (answer) => {
        resolve(answer.list_services_response.service.map((one) => one.name));
        stream.end();
      });
      stream.write({ list_services: "" });
    }),

  unary: async () => {
    await ask(boards, "createBoard", { board: { board_id: BOARD } });
    const request = { ...submission(7, 4200), return_rank: true };
    const { outcome, entry } = await ask(ranking, "submitScore", request, marked("node-unary"));
    return { outcome, rank: entry.rank, score: entry.score };
  },

  batch: async () => applied(await ask(ranking, "batchSubmitScores", batchOf(1, 1000))),

  page: async () => {
    const { entries } = await ask(ranking, "listEntries", { board_id: BOARD, page_size: 1000 });
    const [first, last] = [entries[0], entries.at(-1)];
    return [entries.length, first.user_id, first.rank, last.user_id, last.rank];
  },

  stream: async () => {
    const stream = ranking.streamSubmitScores(new grpc.Metadata(), within(PATIENCE_MS));
    const acknowledged = new Set();
    let taken = 0;
    const end = ending(stream, (answer) => {
      acknowledged.add(answer.sequence);
      taken += applied(answer);
    });
    for (let number = 0; number < MESSAGES; number += 1) {
      stream.write({ sequence: number, ...batchOf(1 + number * PER_MESSAGE, PER_MESSAGE) });
    }
    stream.end();
    const status = await end;
    return { acknowledged: acknowledged.size, taken, status };
  },

  watch: () =>
    new Promise((resolve, reject) => {
      const stream = follow();
      let snapshot;
      stream.on("error", (error) => error.code === grpc.status.CANCELLED || reject(error));
      stream.on("data", ({ event, entries: [first] }) => {
        if (event === "WATCH_EVENT_SNAPSHOT") {
          snapshot = event;
          ask(ranking, "submitScore", submission(7, 9000)).catch(reject);
        } else if (event === "WATCH_EVENT_CHANGES") {
          resolve([snapshot, first.user_id, first.score, first.rank]);
          stream.cancel();
        }
      });
    }),

  cancelled: () => {
    const stream = follow(marked("node-cancelled"));
    return ending(stream, () => stream.cancel());
  },

  deadline: async () => {
    const watching = ending(follow(marked("node-deadline"), 400));
    const soon = refusal(ask(ranking, "batchSubmitScores", batchOf(1, 1000), undefined, 1));
    return [await watching, name((await soon).code)];
  },

  refused: async () => told(await refusal(ask(fresh(), "submitScore", { board_id: BOARD, user_id: 7 }))),

  missing: async () => told(await refusal(ask(fresh(), "getEntry", { board_id: "nowhere", user_id: 7 }))),

  gzip: async () => applied(await ask(zipping, "batchSubmitScores", batchOf(1, 1000))),

  too_large: async () => {
    const request = { board_id: "x".repeat(TOO_MUCH), user_id: 7 };
    return name((await refusal(ask(fresh(), "getEntry", request))).code);
  },

  unknown: () =>
    new Promise((resolve) => {
      const path = "/standings.v1.RankingService/Nonsense";
      const same = (bytes) => bytes;
      ranking.makeUnaryRequest(path, same, same, Buffer.alloc(0), (error) =>
        resolve(name(error ? error.code : grpc.status.OK)),
      );
    }),

  concurrent: async () => {
    const users = Array.from({ length: CALLERS }, (_, at) => String(100 + at));
    const answers = await Promise.all(
      users.map((user_id) => ask(ranking, "getEntry", { board_id: BOARD, user_id })),
    );
    return answers.filter((answer, at) => answer.entry.user_id === users[at]).length;
  },

  // Calls for longer than a connection may last; nobody may notice. As clients are by themselves: a
  // call that came when its connection had ended is sent again, which HTTP/2 says is safe.
  reconnecting: async () => {
    const usual = { "grpc.use_local_subchannel_pool": 1 };
    const ranking = new services.standings.v1.RankingService(ageing, plain, usual);
    const failed = [];
    for (const began = Date.now(); Date.now() - began < 3000; ) {
      const { code, details } = await refusal(ask(ranking, "getEntry", { board_id: BOARD, user_id: 7 }));
      if (code !== grpc.status.OK) failed.push(`${name(code)}: ${details}`);
    }
    return failed;
  },
};

const seen = {};
for (const [what, look] of Object.entries(looks)) {
  seen[what] = await look();
}
process.stdout.write(`${JSON.stringify(seen)}\n`);
process.exit(0);
