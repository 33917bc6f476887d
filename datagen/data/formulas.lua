-- Adds what pandoc makes of each formula in Typst to the document: one entry per formula, in `meta.formulas`.
-- All of them are written in one go, because a writer takes a millisecond to start.
local MARK = 'formula-ends-here'

local function bare(tex) -- numbers and labels are no part of what is typeset
  return (tex:gsub('\\label%s*%b{}', ''):gsub('\\tag%*?%s*%b{}', ''):gsub('\\nonumber', ''):gsub('\\notag', ''))
end

function Pandoc(doc)
  local keys, blocks, seen = {}, {}, {}
  doc:walk {
    Math = function(formula)
      local key = formula.mathtype .. ' ' .. formula.text
      if not seen[key] then
        seen[key] = true
        keys[#keys + 1] = pandoc.MetaString(key)
        blocks[#blocks + 1] = pandoc.Plain { pandoc.Math(formula.mathtype, bare(formula.text)) }
        blocks[#blocks + 1] = pandoc.RawBlock('typst', MARK)
      end
    end,
  }
  doc.meta['formula-keys'] = pandoc.MetaList(keys)
  doc.meta['formulas'] = pandoc.MetaString(pandoc.write(pandoc.Pandoc(blocks), 'typst', { wrap_text = 'none' }))
  return doc
end
