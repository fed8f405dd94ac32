// Grid of thumbnails with names and problems. A click selects an image.
export default {
  template: `
    <div class="sl-thumbnails" role="listbox" aria-label="Images">
      <button v-for="(item, at) in items" :key="item.key" type="button" role="option" class="sl-thumbnail"
        :aria-selected="item.key === chosen" :class="{ 'sl-chosen': item.key === chosen }"
        :title="item.hint" @click="$emit('chosen', { key: item.key })">
        <img v-if="item.url && !broken[item.url]" :src="item.url" loading="lazy" :alt="item.name" @error="broken[item.url] = true" />
        <span v-else class="sl-cross" aria-hidden="true">✕</span>
        <span class="sl-name">{{ item.name }}</span>
        <span class="sl-name" :class="item.wrong ? 'sl-error' : 'sl-remark'" v-if="item.problem">{{ item.problem }}</span>
      </button>
    </div>`,
  props: { items: Array, chosen: String },
  data: () => ({ broken: {} }),
};
