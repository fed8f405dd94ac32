// Sample images: a row for each prompt, a column for each step, and a comparison.
export default {
  template: `
    <div class="sl-samples">
      <div class="sl-note sl-quiet" v-if="!rounds.length">{{ empty }}</div>
      <div class="sl-sample-table" v-else>
        <table>
          <thead><tr><th></th><th v-for="round in rounds" :key="round.step">step {{ round.step }}</th></tr></thead>
          <tbody>
            <tr v-for="(prompt, row) in prompts" :key="row">
              <th scope="row" :title="prompt"><div>{{ prompt }}</div></th>
              <td v-for="(round, column) in rounds" :key="round.step">
                <img v-if="round.images[row]" :src="round.images[row][0]" loading="lazy"
                  :alt="'step ' + round.step + ': ' + prompt" :title="prompt" tabindex="0"
                  :class="{ 'sl-chosen': chosen[0] === row && chosen[1] === column }"
                  @click="choose(row, column)" @keydown.enter="choose(row, column)" />
              </td>
            </tr>
          </tbody>
        </table>
      </div>
      <div class="sl-comparison" v-if="after">
        <div class="sl-between sl-quiet"><span>step {{ rounds[0].step }}</span><span>step {{ rounds[chosen[1]].step }}</span></div>
        <div class="sl-pair" ref="pair" @pointerdown="drag" @pointermove="drag">
          <img :src="after" draggable="false" alt="after" />
          <img :src="before" draggable="false" alt="before" :style="{ clipPath: 'inset(0 ' + (100 - place) + '% 0 0)' }" />
          <div class="sl-divider" :style="{ left: place + '%' }"></div>
        </div>
        <input type="range" min="0" max="100" step="0.5" v-model.number="place"
          aria-label="Divider between before and after" title="Move to the left to see more of the later image" />
        <a class="sl-link" :href="after" target="_blank" rel="noopener">Open image</a>
      </div>
    </div>`,
  props: { empty: String },
  data: () => ({ prompts: [], rounds: [], chosen: [0, 0], place: 50, follow: true }),
  mounted() {
    this.$emit("ready");
  },
  computed: {
    before() {
      return this.image(this.chosen[0], 0);
    },
    after() {
      return this.image(this.chosen[0], this.chosen[1]);
    },
  },
  methods: {
    image(row, column) {
      return this.rounds[column]?.images[row]?.[1];
    },
    // rounds: [{step, images: [[thumbnail, image]]}]
    load({ prompts, rounds }) {
      this.prompts = prompts;
      this.rounds = rounds;
      this.follow = true;
      this.chosen = [0, Math.max(0, rounds.length - 1)];
    },
    append({ prompts, rounds }) {
      this.prompts = prompts;
      this.rounds.push(...rounds);
      // The newest image is selected, unless the user has selected an earlier one.
      if (this.follow) this.chosen = [this.chosen[0], this.rounds.length - 1];
    },
    choose(row, column) {
      this.chosen = [row, column];
      this.follow = column === this.rounds.length - 1;
    },
    drag(event) {
      if (event.type === "pointermove" && !event.buttons) return;
      const frame = this.$refs.pair.getBoundingClientRect();
      this.place = Math.min(100, Math.max(0, (100 * (event.clientX - frame.left)) / frame.width));
    },
  },
};
