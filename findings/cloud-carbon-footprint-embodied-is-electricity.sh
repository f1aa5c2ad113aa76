#!/usr/bin/env bash
# @cloud-carbon-footprint/aws 0.15.0 with @cloud-carbon-footprint/core 1.0.0 (npm), Node 20
#
# Cloud Carbon Footprint estimates, for each row of a bill, kilowattHours and co2e (tonnes).
#
# Expected: the same instance for the same hour uses about the same electricity in every region (the PUE differs by
# some percent); co2e follows the region's grid.
# Seen: an m5.large uses 62.8 Wh in an hour in eu-north-1 and 8.9 Wh in af-south-1. The emissions of making the server
# (embodied, 0.48 g for that hour, the same everywhere) are divided by the region's grid intensity and added to
# kilowattHours: the cleaner the grid, the more "electricity". Of the 62.8 Wh in eu-north-1 54 are never used.
set -euo pipefail
command -v npm >/dev/null || { echo "needs Node and npm" >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --silent --no-audit --no-fund \
    @cloud-carbon-footprint/aws@0.15.0 @cloud-carbon-footprint/core@1.0.0 @cloud-carbon-footprint/common@2.0.0
cat >seen.cjs <<'JS'
const assert = require("node:assert");
const { AWSAccount, AWS_EMISSIONS_FACTORS_METRIC_TON_PER_KWH: factors } = require("@cloud-carbon-footprint/aws");

const regions = ["eu-north-1", "eu-west-3", "eu-central-1", "us-east-1", "af-south-1"];
const bill = regions.map((region) => ({
  serviceName: "AmazonEC2",
  region,
  usageType: "BoxUsage:m5.large",
  usageUnit: "Hrs",
  vCpus: "2",
}));
AWSAccount.getCostAndUsageReportsDataFromInputData(bill).then((estimates) => {
  const wattHours = {};
  for (const { region, kilowattHours, co2e } of estimates) {
    wattHours[region] = 1e3 * kilowattHours;
    const grid = (1e6 * factors[region]).toFixed(1);
    console.log(`${region}: ${wattHours[region].toFixed(1)} Wh, ${(1e6 * co2e).toFixed(2)} g, grid ${grid} g/kWh`);
  }
  assert(wattHours["eu-north-1"] > 5 * wattHours["af-south-1"], "electricity is that of the instance: mended");
  // What is the same in both regions apart from the grid: x Wh of use and y g of making the server.
  const making = (wattHours["eu-north-1"] - wattHours["af-south-1"]) / (1 / factors["eu-north-1"] - 1 / factors["af-south-1"]);
  const used = wattHours["af-south-1"] - making / factors["af-south-1"];
  console.log(`used ${used.toFixed(1)} Wh, and ${(1e3 * making).toFixed(2)} g of making the server as electricity`);
  for (const region of regions) {
    const both = used + making / factors[region];
    assert(Math.abs(wattHours[region] / both - 1) < 0.15, `${region}: not use plus making over grid intensity`);
  }
});
JS
node seen.cjs 2>errors || { cat errors >&2; exit 1; }
echo "seen as stated"
