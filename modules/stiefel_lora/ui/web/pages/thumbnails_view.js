// Grid of thumbnails with names and problems. A click selects an image; Ctrl, Shift and
// the box of an image select several.
export default {
  template: `
    <div class="sl-thumbnails" role="group" aria-label="Images">
      <div v-for="item in items" :key="item.key" class="sl-thumbnail"
        :class="{ 'sl-chosen': item.key === chosen, 'sl-picked': selected.includes(item.key) }">
        <button type="button" :aria-pressed="item.key === chosen" :title="item.hint" @click="choose(item, $event)">
          <img v-if="item.url && !broken[item.url]" :src="item.url" loading="lazy" :alt="item.name" @error="broken[item.url] = true" />
          <span v-else class="sl-cross" aria-hidden="true">✕</span>
          <span class="sl-name">{{ item.name }}</span>
          <span class="sl-name" :class="item.wrong ? 'sl-error' : 'sl-remark'" v-if="item.problem">{{ item.problem }}</span>
        </button>
        <input v-if="multiple" type="checkbox" class="sl-pick" :checked="selected.includes(item.key)"
          :aria-label="'Select ' + item.name" title="Select several images"
          @click.prevent="$emit('chosen', { key: item.key, adds: true, extends: $event.shiftKey })" />
      </div>
    </div>`,
  props: { items: Array, chosen: String, selected: Array, multiple: Boolean },
  data: () => ({ broken: {} }),
  methods: {
    choose(item, event) {
      const adds = event.ctrlKey || event.metaKey;
      this.$emit("chosen", { key: item.key, adds, extends: event.shiftKey });
    },
  },
};
