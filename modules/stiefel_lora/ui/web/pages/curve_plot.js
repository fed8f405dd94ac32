// Curves over steps. Points are appended, and drawn once per frame of the screen.
import { echarts } from "nicegui-echart";

const LINES = { solid: "solid", dashed: "dashed", dotted: "dotted", "dash-dot": [8, 3, 2, 3], "dash-dot-dot": [8, 3, 2, 3, 2, 3] };

export default {
  template: `<div class="sl-curves"></div>`,
  props: { title: String },
  created() {
    this.curves = [];
    this.points = {};
    this.range = [1, null];
  },
  mounted() {
    this.chart = echarts.init(this.$el, null, { renderer: "canvas" });
    this.watchers = [
      new ResizeObserver(() => {
        this.chart.resize({ animation: { duration: 0 } });
        this.queue();
      }),
      new MutationObserver(() => this.queue()),
    ];
    this.watchers[0].observe(this.$el);
    this.watchers[1].observe(document.body, { attributes: true, attributeFilter: ["class"] });
    this.$emit("ready");
  },
  unmounted() {
    for (const watcher of this.watchers) watcher.disconnect();
    this.chart.dispose();
  },
  methods: {
    // reload, curves: list or null, points: {tag: [[step, value]]}, range: [steps, top]
    update({ reload, curves, points, range }) {
      if (reload) this.points = {};
      if (curves) this.curves = curves;
      this.range = range;
      for (const [tag, found] of Object.entries(points)) {
        this.points[tag] ??= [];
        this.points[tag].push(...found);
      }
      this.queue();
    },
    queue() {
      if (this.frame) return;
      this.frame = requestAnimationFrame(() => {
        this.frame = null;
        if (this.$el.offsetParent) this.draw();
      });
    },
    draw() {
      const dark = document.body.classList.contains("body--dark");
      const text = getComputedStyle(this.$el).color;
      const faint = dark ? "#ffffff22" : "#00000018";
      const axis = { axisLine: { lineStyle: { color: text } }, axisLabel: { color: text, fontSize: 11, hideOverlap: true } };
      const [steps, top] = this.range;
      this.chart.setOption({
        animation: false,
        grid: { left: 52, right: 14, top: 26, bottom: 36 },
        legend: { type: "scroll", top: 0, right: 8, left: 104, itemHeight: 8, itemWidth: 20, textStyle: { color: text, fontSize: 11 }, pageTextStyle: { color: text }, pageIconColor: text },
        tooltip: { trigger: "axis", confine: true, valueFormatter: (value) => (value === null ? "" : `${value}`), backgroundColor: dark ? "#2d333b" : "#ffffff", textStyle: { color: text, fontSize: 12 } },
        title: { text: this.title, left: 0, top: 0, textStyle: { color: text, fontSize: 12, fontWeight: 600 } },
        xAxis: { type: "value", min: 0, max: steps, name: "Step", nameLocation: "middle", nameGap: 22, nameTextStyle: { color: text, fontSize: 11 }, splitLine: { show: false }, ...axis },
        yAxis: { type: "value", scale: true, min: top === null ? null : 0, max: top, interval: top === null ? null : top / 4, splitNumber: 4, splitLine: { lineStyle: { color: faint } }, ...axis },
        series: this.curves.map((curve) => {
          const color = dark ? curve.dark : curve.light;
          return {
            type: "line", name: curve.name, data: this.points[curve.tag] || [], color,
            lineStyle: { color, width: curve.width, type: LINES[curve.line] },
            showSymbol: curve.points, symbol: "circle", symbolSize: 5, sampling: curve.points ? undefined : "minmax",
          };
        }),
      }, { replaceMerge: ["series"], lazyUpdate: true });
    },
  },
};
