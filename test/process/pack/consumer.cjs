const { probe } = require("./probe.cjs");
const required = require("tokenmill");

import("tokenmill").then((imported) => probe([required, imported], process.argv[2]));
