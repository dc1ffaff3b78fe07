"use strict";
// Draws the figures of the page's data. What goes wrong is counted where a test finds it.
const page = document.documentElement;
page.dataset.errors = "0";
window.addEventListener("error", () => { page.dataset.errors = String(Number(page.dataset.errors) + 1); });

const COLOURS = ["#14607a", "#d1603d", "#7a8b2e", "#6b4c9a"];
const SYMBOLS = ["circle", "rect", "triangle", "diamond"];

function short(value) {
  const size = Math.abs(value);
  const trim = (number, unit) => String(Number(number.toPrecision(3))) + unit;
  if (size >= 1e9) return trim(value / 1e9, " G");
  if (size >= 1e6) return trim(value / 1e6, " M");
  if (size >= 1e4) return trim(value / 1e3, " k");
  return size >= 100 ? String(Math.round(value)) : trim(value, "");
}

function option(figure, panel, top) {
  const bars = figure.shape === "bars";
  const axis = { axisLine: { lineStyle: { color: "#9aa8b3" } }, axisLabel: { color: "#46545f" }, nameTextStyle: { color: "#46545f" } };
  return {
    animation: false,
    color: COLOURS,
    textStyle: { fontFamily: "system-ui, sans-serif" },
    grid: { left: 12, right: 18, top: 42, bottom: bars ? 30 : 34, containLabel: true },
    legend: { top: 0, left: 0, icon: bars ? "roundRect" : undefined, itemHeight: 9, textStyle: { color: "#33424f" }, show: panel.series.length > 1 },
    tooltip: {
      trigger: "axis", axisPointer: { type: bars ? "shadow" : "line" },
      valueFormatter: (value) => Number(value).toLocaleString("en", { maximumFractionDigits: 3 }),
    },
    dataZoom: bars ? [] : [{ type: "inside", zoomOnMouseWheel: "shift" }],
    toolbox: { show: !bars, right: 0, top: -4, itemSize: 12, feature: { dataZoom: { yAxisIndex: "none" }, restore: {} } },
    xAxis: Object.assign({
      type: bars ? "category" : figure.logarithmic ? "log" : "value", name: figure.x, nameLocation: "middle", nameGap: bars ? 44 : 28,
      data: bars ? panel.names : undefined, min: bars ? undefined : "dataMin", max: bars ? undefined : "dataMax",
      splitLine: { show: false },
    }, axis, { axisLabel: { color: "#46545f", interval: 0, hideOverlap: !bars, width: 110, lineHeight: 14, overflow: "break", formatter: bars ? undefined : short } }),
    yAxis: Object.assign({
      type: "value", name: figure.y, nameLocation: "end", scale: figure.ratio, min: figure.ratio ? undefined : 0, max: top,
      splitLine: { lineStyle: { color: "#e8edf0" } },
    }, axis, { nameTextStyle: { color: "#46545f", align: "left" }, axisLabel: { color: "#46545f", formatter: short } }),
    series: panel.series.map((series, index) => bars
      ? { type: "bar", name: series.name, data: series.data, barMaxWidth: 46, itemStyle: { borderRadius: [3, 3, 0, 0] } }
      : { type: "line", name: series.name, data: series.data, symbol: SYMBOLS[index % 4], symbolSize: 7, lineStyle: { width: 2 } }),
  };
}

const figures = JSON.parse(document.getElementById("data").textContent);
const charts = [];
for (const figure of figures) {
  const card = document.getElementById("figure-" + figure.id);
  let points = 0;
  figure.panels.forEach((panel, index) => {
    const place = card.querySelectorAll(".plot")[index];
    const chart = echarts.init(place, null, { renderer: "svg" });
    chart.setOption(option(figure, panel));
    charts.push(chart);
    for (const series of chart.getOption().series) points += series.data.filter((point) => point !== null).length;
    place.addEventListener("dblclick", () => chart.dispatchAction({ type: "restore" }));
  });
  card.dataset.points = String(points);
  card.querySelector("button").addEventListener("click", () => {
    const text = document.getElementById("svg-" + figure.id).innerHTML.trim();
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "image/svg+xml" }));
    link.download = "figure-" + figure.id + ".svg";
    link.click();
    URL.revokeObjectURL(link.href);
  });
}
window.addEventListener("resize", () => charts.forEach((chart) => chart.resize()));
page.dataset.figures = String(figures.length);
